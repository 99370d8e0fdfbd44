"""One request on its way through the gateway: what every step reads, and where it leaves what it decided."""

from typing import Final

from gateway.http1.head import Head
from gateway.routing.routes import Route
from service_kit.tokens import Caller

_NOWHERE: Final = Route(
    service="gateway", name="none", path="/", methods=frozenset(), source="(none)", public=True
)


class ProxyRequest:
    """One request on its way: what was decided so far, and how it ended if it was refused."""

    __slots__ = (
        "caller",
        "client",
        "head",
        "preflight",
        "refusal",
        "request_id",
        "response_headers",
        "route",
        "scheme",
        "subprotocols",
        "trace",
        "unknown_key",
        "upgrading",
    )

    def __init__(self, head: Head) -> None:
        self.head = head
        self.route = _NOWHERE
        self.caller: Caller | None = None
        self.client = head.peer
        self.scheme = b"http"
        self.request_id = b""
        self.trace = b""
        self.response_headers = b""  # what the gateway adds to the answer, whoever gives it
        self.refusal = head.refusal
        self.preflight = False  # or another OPTIONS that no route takes: the gateway answers it
        self.unknown_key: str | None = None  # decide once more when it was looked for
        self.upgrading = False
        self.subprotocols = b""
