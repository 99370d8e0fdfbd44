"""The path of every request, top to bottom: synchronous, in memory, one line a step."""

from dataclasses import dataclass
from typing import Final

from gateway import cors, forwarding
from gateway.callers import Callers, InvalidToken, refusal_of
from gateway.limits import Limits
from gateway.request import Head, check_length
from gateway.routes import Route, Routes
from gateway.upstream import upgrade
from service_kit.addresses import ClientAddress
from service_kit.problems import Problem
from service_kit.tokens import Caller, KeyUnknown

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
        self.refusal: Problem | None = None
        self.preflight = False
        self.unknown_key: str | None = None  # decide once more when it was looked for
        self.upgrading = False
        self.subprotocols = b""


@dataclass(slots=True)
class Pipeline:
    """The steps' owners. The routes are replaced whole when their files change."""

    routes: Routes
    proxies: ClientAddress | None
    callers: Callers
    limits: Limits

    def decide(self, head: Head, now: float, again: bool = False) -> Passage:
        """Who is calling, and may it pass. Changes nothing but the memo and the allowances."""
        passage = Passage(head)
        try:
            forwarding.name(passage)
            forwarding.locate(passage, self.proxies)
            if not again:
                self.limits.admit_address(passage.client, now)
            forwarding.refuse_loops(head)
            route = passage.route = self.routes.match(cors.method_meant(head), head.path)
            passage.answer_fields = cors.fields_for(route, head)
            if cors.answers_preflight(route, head):
                passage.preflight = True
                return passage
            check_length(head, route.body_max_bytes)
            caller = passage.caller = None if route.public else self.callers.identify(head, now)
            route.admit(caller)
            passage.answer_fields = self.limits.spend(passage, now)
            upgrade.consider(passage)
        except KeyUnknown as unknown:
            if again:
                passage.refusal = refusal_of(unknown)
            passage.unknown_key = unknown.kid
        except Problem as refusal:
            if isinstance(refusal, InvalidToken):
                self.limits.punish_address(passage.client, now)
            passage.refusal = refusal
        return passage
