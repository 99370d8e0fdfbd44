"""The path of every request, top to bottom: synchronous, in memory, one line a step."""

from dataclasses import dataclass

from gateway import cors, forwarding, upgrade
from gateway.callers import Callers, InvalidToken, refusal_of
from gateway.head import Head
from gateway.leases import microseconds
from gateway.limits import Limits
from gateway.origins import Origin
from gateway.passage import Passage
from gateway.routes import Routes
from service_kit.addresses import ClientAddress
from service_kit.problems import Problem
from service_kit.tokens import KeyUnknown


@dataclass(slots=True)
class Pipeline:
    """The steps' owners. The routes are replaced whole when their files change."""

    routes: Routes
    proxies: ClientAddress | None
    callers: Callers
    limits: Limits
    public: Origin | None = None  # PUBLIC_URL's

    def trusts(self, peer: bytes) -> bool:
        """Whether the peer is a proxy that is believed about its clients."""
        return self.proxies is not None and self.proxies.trusts(peer.decode())

    def decide(self, head: Head, now: float, again: bool = False) -> Passage:
        """Who is calling, and may it pass. Changes nothing but the memo and the allowances."""
        passage = Passage(head)
        try:
            forwarding.name(passage)
            if self.proxies is not None:
                forwarding.locate(passage, self.proxies)
            # Before anything refuses: a script must be able to read every refusal.
            cors.choose_route(passage, self.routes)
            if not again:
                self.limits.admit_address(passage.client)
            if b"via" in head.others:
                forwarding.refuse_loops(head)
            if passage.preflight or passage.refusal is not None:
                return passage
            route = passage.route
            route.take(head)
            caller = passage.caller = None if route.public else self.callers.identify(head, now)
            route.admit(caller)
            if route.limit is not None:
                passage.answer_fields = self.limits.spend(passage, route.limit, microseconds())
            upgrade.consider(passage, self.public)
        except KeyUnknown as unknown:
            if again:
                passage.refusal = refusal_of(unknown)
                self.limits.punish_address(passage.client)
            passage.unknown_key = unknown.kid
        except Problem as refusal:
            if isinstance(refusal, InvalidToken):
                self.limits.punish_address(passage.client)
            passage.refusal = refusal
        return passage
