"""One request on its way through the gateway: what every step reads, and where it leaves what it decided."""

from typing import Final

from gateway.head import Head
from gateway.routes import Route
from service_kit.tokens import Caller

_NOWHERE: Final = Route(
    service="gateway", name="none", path="/", methods=frozenset(), source="(none)", public=True
)


class Passage:
    """One request on its way: what was decided so far, and how it ended if it was refused."""

    __slots__ = (
        "answer_fields",
        "caller",
        "client",
        "head",
        "preflight",
        "refusal",
        "request_id",
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
        self.answer_fields = b""  # what the gateway adds to the answer, whoever gives it
        self.refusal = head.refusal
        self.preflight = False  # or another OPTIONS that no route takes: the gateway answers it
        self.unknown_key: str | None = None  # decide once more when it was looked for
        self.upgrading = False
        self.subprotocols = b""
