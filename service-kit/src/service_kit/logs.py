"""One log line per event, JSON in containers and readable on a terminal, for us, uvicorn and gunicorn alike."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.settings import ServiceSettings


def configure(settings: ServiceSettings, service: str) -> None:
    """Send every logger's lines to standard output (and a rotating file if one is set). May be called again."""
    raise NotImplementedError


class AccessLog:
    """Pure ASGI: one line per request, without the query."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError
