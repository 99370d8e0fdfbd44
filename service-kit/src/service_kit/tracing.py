"""Request ids and W3C trace context: read once on the way in, passed on by every hop."""

from typing import NamedTuple, Self

from starlette.types import ASGIApp, Receive, Scope, Send


class Trace(NamedTuple):
    """Our span within a trace."""

    trace_id: str
    span_id: str
    flags: str
    state: str

    def header(self) -> str:
        """As a `traceparent` value for the next hop."""
        raise NotImplementedError


def request_id_of(value: bytes | None) -> str:
    """The request id received if it is well formed, else a new one."""
    raise NotImplementedError


def trace_of(traceparent: bytes | None, tracestate: bytes | None = None) -> Trace:
    """A new span of the trace received if that is well formed, else of a new trace."""
    raise NotImplementedError


def request_id() -> str | None:
    """The id of the request being served, or None outside one."""
    raise NotImplementedError


def trace_id() -> str | None:
    """The trace id of the request being served, or None outside one."""
    raise NotImplementedError


def outgoing_headers() -> dict[str, str]:
    """Headers for a call made while serving a request; empty outside one."""
    raise NotImplementedError


class RequestContext:
    """Pure ASGI, outermost: gives each request its id and trace, and tells the id in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError
