"""The path of every request, top to bottom: synchronous, in memory, one line a step."""

from dataclasses import dataclass

from gateway.http1.head import Head
from gateway.http1.origins import Origin
from gateway.policy import cors, forwarding, websocket
from gateway.policy.authentication import Callers
from gateway.policy.proxy_request import ProxyRequest
from gateway.policy.rate_limits import Limits
from gateway.rate_limit.leases import microseconds
from gateway.routing.routes import Routes
from service_kit.addresses import ClientAddress
from service_kit.dependencies import InvalidToken
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

    def decide(self, head: Head, now: float, again: bool = False) -> ProxyRequest:
        """Who is calling, and may it pass. Changes nothing but the memo and the allowances."""
        request = ProxyRequest(head)
        try:
            forwarding.name(request)
            if self.proxies is not None:
                forwarding.locate(request, self.proxies)
            # Before anything refuses: a script must be able to read every refusal.
            cors.choose_route(request, self.routes)
            if not again:
                self.limits.admit_address(request.client)
            if b"via" in head.others:
                forwarding.refuse_loops(head)
            if request.preflight or request.refusal is not None:
                return request
            route = request.route
            route.take(head)
            caller = request.caller = None if route.public else self.callers.identify(head, now)
            route.admit(caller)
            if route.limit is not None:
                request.response_headers = self.limits.spend(request, route.limit, microseconds())
            websocket.consider(request, self.public)
        except KeyUnknown as unknown:
            if again:
                request.refusal = InvalidToken(unknown)
                self.limits.punish_address(request.client)
            request.unknown_key = unknown.kid
        except Problem as refusal:
            if isinstance(refusal, InvalidToken):
                self.limits.punish_address(request.client)
            request.refusal = refusal
        return request
