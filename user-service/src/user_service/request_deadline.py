"""One request, one deadline for all that it asks of the database."""

from starlette.types import ASGIApp, Receive, Scope, Send

from user_service.database import Database


class RequestDeadline:
    """Pure ASGI: without it a request with three units of work could wait three times."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._database.begin_request()
        await self._app(scope, receive, send)
