"""Two binds of one process: which application answers is decided by the connection's own local port."""

from starlette.types import ASGIApp, Receive, Scope, Send


class PortDispatch:
    """Pure ASGI. Never decided by Host; the lifespan is the public application's."""

    def __init__(self, public: ASGIApp, internal: ASGIApp, internal_port: int) -> None:
        self._public = public
        self._internal = internal
        self._internal_port = internal_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        internal = server is not None and server[1] == self._internal_port
        await (self._internal if internal else self._public)(scope, receive, send)
