"""Request bodies as routes read them: JSON of one meaning, and of JSON's media type."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from service_kit import strict_json
from service_kit.problems import Problem


class InvalidJson(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "invalid_json", "The body is not JSON of one meaning"
    detail = "Send what a common JSON library writes: names and texts in double quotes, in UTF-8."


class UnsupportedMediaType(Problem):
    status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"
    title = "The route does not read bodies of this type"
    detail = "Send `Content-Type: application/json`."


class JsonRequest(Request):
    async def json(self) -> Any:
        """Called once by FastAPI, which renders a JSONDecodeError."""
        return strict_json.decode(await self.body())


class JsonRoute(APIRoute):
    """For `APIRouter(route_class=JsonRoute)`. A route without a parameter for the body may stream it as ever."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json


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
