"""Request bodies as routes read them: JSON of one meaning, of JSON's media type, and of a bounded size."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from service_kit import strict_json
from service_kit.problems import Problem


class InvalidJson(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "invalid_json", "The body is not unambiguous JSON"
    detail = "Send the output of a common JSON library: names and texts in double quotes, in UTF-8."


class UnsupportedMediaType(Problem):
    status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"
    title = "The route does not read bodies of this type"
    detail = "Send `Content-Type: application/json`."


class BodyTooLarge(Problem):
    status, code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large"
    title = "The body is larger than this route takes"
    detail = "Send a smaller body."


class JsonRequest(Request):
    async def json(self) -> Any:
        """Called once by FastAPI, which renders a JSONDecodeError."""
        return strict_json.decode(await self.body())


class JsonRoute(APIRoute):
    """For `APIRouter(route_class=JsonRoute)`. A route without a parameter for the body may stream it as ever."""

    # The gateway's default for a route. FastAPI reads a body before it looks at a token, and not everybody who reaches
    # the service comes through the gateway. A subclass may take more.
    most_bytes: ClassVar[int] = 1024 * 1024

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, _bounded(request.receive, self.most_bytes)))

        return handle_json


def _bounded(receive: Receive, most: int) -> Receive:
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            # FastAPI takes whatever else is raised while it reads for a body that cannot be parsed.
            raise HTTPException(BodyTooLarge.status, f"The route takes at most {most} bytes.")
        return message

    return receive_bounded


def require_json_routes(app: FastAPI) -> None:
    """A router whose routes would read JSON loosely stops the service at its start."""
    app.router.route_class = JsonRoute
    include = app.include_router

    def include_router(router: APIRouter, **options: Any) -> None:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.body_field and not isinstance(route, JsonRoute):
                raise TypeError(f"{route.path} reads a body, so its router needs route_class=JsonRoute")
        include(router, **options)

    app.include_router = include_router  # type: ignore[method-assign] # as the document's generator is replaced


def unreadable(error: RequestValidationError) -> InvalidJson | UnsupportedMediaType | None:
    """The refusal of a body that could not even be read, else None."""
    fault = error.__cause__
    if isinstance(fault, json.JSONDecodeError):
        message = fault.msg.split(":", 1)[0]  # behind it Python may quote what it stumbled over
        if fault.pos == strict_json.NO_POSITION:
            return InvalidJson(f"{message}.")
        return InvalidJson(f"{message} (position {fault.pos}).", position=fault.pos)
    # FastAPI hands on the bytes of a body whose type is not JSON's.
    if isinstance(error.body, bytes):
        return UnsupportedMediaType()
    return None
