"""Headers that are lists, joined to one line each: an application that reads one line has read them whole."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

# Lists that a sender or a proxy may spread over several lines (RFC 9110, section 5.3). A header that has one value stays
# as it came: twice is a fault, which whoever reads it has to see.
_LISTS: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language access-control-request-headers cache-control connection "
    b"content-encoding content-language expect forwarded if-match if-none-match pragma prefer sec-websocket-extensions "
    b"sec-websocket-protocol te tracestate trailer upgrade via x-forwarded-for x-forwarded-proto".split()
)


class ListHeaders:
    """Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = scope["headers"]
            if len({name for name, _ in headers}) < len(headers):
                scope["headers"] = _joined(headers)
        await self._app(scope, receive, send)


def _joined(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Each list where its first line stood."""
    joined: list[tuple[bytes, bytes]] = []
    places: dict[bytes, int] = {}
    for name, value in headers:
        if name in places:
            at = places[name]
            joined[at] = name, b", ".join(filter(None, (joined[at][1], value)))
        else:
            if name in _LISTS:
                places[name] = len(joined)
            joined.append((name, value))
    return joined
