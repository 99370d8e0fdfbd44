"""Problems as the answers of a FastAPI application, and in its OpenAPI document."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit import tracing
from service_kit.bodies import (
    BodyTooLarge,
    InvalidJson,
    UnsupportedMediaType,
    require_json_routes,
    unreadable,
)
from service_kit.dependencies import (
    AmbiguousCredentials,
    InsufficientScope,
    InvalidToken,
    NotAuthenticated,
    VerificationUnavailable,
)
from service_kit.document import describe
from service_kit.list_headers import ListHeaders
from service_kit.logs import nameless
from service_kit.problems import MEDIA_TYPE, ApiError, Problem, body

logger = logging.getLogger(__name__)

# A body of a mebibyte can hold a hundred thousand faults; nobody fixes more than these at once.
_MOST_FAULTS: Final = 20
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def install(app: FastAPI, *everywhere: type[ApiError], schemas: Mapping[str, Any] | None = None) -> None:
    """Answer every error of the application as a problem, and say so in its OpenAPI document; read headers that are
    lists whole, and never redirect.

    `everywhere` are refusals that any operation may answer; `schemas` of what refuses in another form than a problem.
    """
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    # A redirect would name the address at which the gateway reaches the service, and its path before the rewrite.
    app.router.redirect_slashes = False
    app.add_middleware(ListHeaders)
    app.add_middleware(HeadAsGet)
    app.add_middleware(UnhandledErrors)
    require_json_routes(app)
    describe(app, (Problem, Stopping, *everywhere), _refusals_of, (NotFound, MethodNotAllowed), schemas or {})


class Incomplete(Problem):
    """Whoever asks went away before the request was there: nobody reads this, but logs and metrics tell of it."""

    status, code, title = HTTPStatus.BAD_REQUEST, "incomplete_request", "The request broke off"
    detail = "The connection ended before the whole request arrived. Send it again."


class Stopping(Problem):
    """The worker has to end before the request does."""

    status, code, title = HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "The service is stopping"

    detail = "The request may have been carried out, or not. Check before you repeat it."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class NotFound(Problem):
    status, code, title = HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this path"
    detail = "The service's API document lists every path."


class MethodNotAllowed(Problem):
    status, code, title = (
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "The method is not allowed here",
    )
    detail = "`Allow` lists the methods of this path."


class InvalidRequest(Problem):
    """Of the right form, but fields are missing, unknown or have values that are not taken."""

    status, code, title = (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request has invalid fields",
    )
    detail = "Fix the fields listed in `errors`."


class UnhandledErrors:
    """Pure ASGI: an exception nobody handled is logged once, and answered if no answer has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except asyncio.CancelledError:
            # Only a server that ends and has waited long enough cancels a request; its own answer would be bare text.
            if started:
                raise
            logger.warning("the worker ends before %s %s", scope["method"], nameless(scope["path"]))
            await _render(Stopping())(scope, receive, send)
        except ClientDisconnect:
            if started:
                raise
            await _render(Incomplete())(scope, receive, send)
        except Exception:
            if started:
                raise  # the server logs it and cuts the connection: half an answer must not look whole
            logger.exception("unhandled error in %s %s", scope["method"], nameless(scope["path"]))
            await _render(Problem())(scope, receive, send)


class HeadAsGet:
    """Pure ASGI: HEAD is answered as GET, without the content (RFC 9110, section 9.3.2); FastAPI's routes know it not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_content(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_content)
        finally:
            scope["route"] = asked.get("route")  # for the metrics, which are further out


def _refusals_of(operation: Mapping[str, Any]) -> Iterator[type[ApiError]]:
    """What any operation of this kind may answer, beside what its route declares."""
    if security := operation.get("security"):
        yield from (NotAuthenticated, InvalidToken, AmbiguousCredentials, VerificationUnavailable)
        if any(any(scheme.values()) for scheme in security):
            yield InsufficientScope
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        yield from (Incomplete, InvalidJson, BodyTooLarge, UnsupportedMediaType)
    if "422" in operation["responses"]:
        yield InvalidRequest


def _render(problem: Problem) -> Response:
    content = body(
        problem.status,
        problem.code,
        problem.title,
        problem.detail,
        tracing.request_id() or "",
        **problem.members,
    )
    return Response(content, problem.status, problem.headers, MEDIA_TYPE)


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return _render(problem)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    """The framework's own refusals."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status < HTTPStatus.BAD_REQUEST:
        return Response(status_code=status, headers=error.headers)
    for refusal in (NotFound, MethodNotAllowed):
        if refusal.status == status:
            return _render(refusal(headers=error.headers))
    if status == BodyTooLarge.status:
        return _render(BodyTooLarge(error.detail, headers=error.headers))
    content = body(status, status.name.lower(), status.phrase, error.detail, tracing.request_id() or "")
    return Response(content, status, error.headers, MEDIA_TYPE)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if (refusal := unreadable(error)) is not None:
        return _render(refusal)
    faults = [{"field": _field(fault), "message": _message(fault)} for fault in error.errors()[:_MOST_FAULTS]]
    return _render(InvalidRequest(errors=faults))


def _field(fault: Any) -> str:
    """The name within the body, the query or the headers; of an unknown one, only if it is written like a name."""
    path = [str(part) for part in fault["loc"]] or ["body"]
    if fault["type"] == "extra_forbidden" and not _NAME.fullmatch(path[-1]):
        path.pop()
    return ".".join(path[1:]) or path[0]


def _message(fault: Any) -> str:
    message = str(fault["msg"])
    context = fault.get("ctx") or {}
    if fault["type"] == "extra_forbidden":
        return "There is no such field; leave it out."
    if fault["type"] in ("value_error", "assertion_error") and "reason" not in context:
        return message.split(", ", 1)[-1]  # our own validator's words
    if "error" in context or "reason" in context:
        # What follows is a parser's remark, and it quotes what it stumbled over.
        message = message.split(": ", 1)[0].split(", ", 1)[0]
    # A Literal of an enum's members is told as Python shows them: <Kind.VERIFY: 'verify-address'>.
    return re.sub(r"<\w+\.\w+: ('[^']*')>", r"\1", message)
