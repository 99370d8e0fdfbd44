"""Request ids and W3C trace context: read once on the way in, passed on by every hop."""

from __future__ import annotations

import re
from contextvars import ContextVar
from random import getrandbits
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,128}")
# A later version may say more after the flags; version 00 may not (Trace Context, section 3.2). It is looked at last, for
# it costs every request that has the header.
TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-(?<!00.{54}).*)?"
)
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")


class Trace(NamedTuple):
    """Our span within a trace."""

    trace_id: str
    span_id: str
    flags: str
    state: str

    def header(self) -> str:
        """As a `traceparent` value for the next hop."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


class _Current(NamedTuple):
    request_id: str
    trace: Trace


# Never reset: each request has a task of its own, and a line logged after the answer still has its id.
_current: ContextVar[_Current | None] = ContextVar("service_kit.tracing", default=None)


def request_id_of(value: bytes | None) -> str:
    """The request id received if it is well formed, else a new one."""
    if value is not None and REQUEST_ID.fullmatch(value):
        return value.decode("ascii")
    return f"{getrandbits(128):032x}"


def trace_of(traceparent: bytes | None, tracestate: bytes | None = None) -> Trace:
    """A new span of the trace received if that is well formed, else of a new trace."""
    span_id = f"{getrandbits(64) or 1:016x}"
    parent = TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if parent is None:
        return Trace(f"{getrandbits(128) or 1:032x}", span_id, "00", "")
    state = tracestate.decode("ascii") if tracestate and _TRACESTATE.fullmatch(tracestate) else ""
    # Only the sampled flag is ours to pass on; the others may mean something we do not know.
    return Trace(parent[1].decode("ascii"), span_id, f"{int(parent[2], 16) & 1:02x}", state)


def request_id() -> str | None:
    """The id of the request being served, or None outside one."""
    current = _current.get()
    return current and current.request_id


def trace_id() -> str | None:
    """The trace id of the request being served, or None outside one."""
    current = _current.get()
    return current and current.trace.trace_id


def outgoing_headers() -> dict[str, str]:
    """Headers for a call made while serving a request; empty outside one."""
    current = _current.get()
    if current is None:
        return {}
    headers = {"X-Request-Id": current.request_id, "traceparent": current.trace.header()}
    if current.trace.state:
        headers["tracestate"] = current.trace.state
    return headers


class RequestContext:
    """Pure ASGI, outermost: gives each request its id and trace, and tells the id in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        received: dict[bytes, bytes | None] = {}
        for name, value in scope["headers"]:
            if name in (b"x-request-id", b"traceparent"):
                received[name] = None if name in received else value  # sent twice, it says nothing
            elif name == b"tracestate":  # a list
                before = received.get(name)
                received[name] = b",".join((before, value)) if before else value
        current = _Current(
            request_id_of(received.get(b"x-request-id")),
            trace_of(received.get(b"traceparent"), received.get(b"tracestate")),
        )
        _current.set(current)
        header = (b"x-request-id", current.request_id.encode("ascii"))

        async def tell(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, tell)
