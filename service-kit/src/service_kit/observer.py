"""What every request came to, for whoever keeps count."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestObserver:
    """Pure ASGI: `record` is called once for each HTTP request, when it is over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self.record(scope, status, time.perf_counter() - began)

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """`scope` is as the app left it: with its route, if one matched. `status` is 500 if there was no answer."""
        raise NotImplementedError
