"""How much, how often: by address before anything is verified, by route and caller afterwards."""

from functools import lru_cache
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import Final

from gateway.policy.proxy_request import ProxyRequest
from gateway.rate_limit.leases import SECOND, LimitLeases
from gateway.rate_limit.per_address import around, network_of
from gateway.routing.routes import Limit
from service_kit import gcra
from service_kit.problems import Problem

FAILED_VERIFICATION: Final = 10  # what a forged token costs its address, in requests
_MOST_ADDRESSES: Final = 200_000
_SECOND: Final = 1_000_000_000
_WIDER: Final = (4, 16)  # times the allowance of a /64 at a route: a /56's, a /48's
_COLON: Final = ord(":")  # only IPv6 has it


class AddressLimited(Problem):
    status, code, title = (
        HTTPStatus.TOO_MANY_REQUESTS,
        "address_limited",
        "Too many requests from this address",
    )
    detail = "Wait as long as `Retry-After` says."


class RouteLimited(Problem):
    status, code, title = HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", "Too many requests"
    detail = "Wait as long as `Retry-After` says; `RateLimit` tells how much is left."


class Addresses:
    """One allowance an address (an IPv6 /64), in this worker's memory, in nanoseconds (service_kit.gcra).

    Its clock is the time of the last sweep: cheap, a tick old at most, and nobody can set it back."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = round(_SECOND / per_second) if per_second else 0
        self._burst = burst
        self._tats: dict[bytes, int] = {}
        self._set_clock(monotonic())

    def __len__(self) -> int:
        return len(self._tats)

    def admit(self, address: bytes) -> None:
        if not self._interval:
            return
        if _COLON in address:
            for step, network in enumerate(around(network_of(address)), 1):
                self._spend(network, self._interval // step)
        else:
            self._spend(address, self._interval)

    def _spend(self, network: bytes, interval: int) -> None:
        tat = gcra.spend(self._tats.get(network, 0), self._now, interval)
        if tat > self._latest:
            raise AddressLimited(headers={"Retry-After": str(-((self._latest - tat) // _SECOND))})
        self._tats[network] = tat

    def punish(self, address: bytes) -> None:
        """Charges a failed verification, beyond the request itself."""
        if self._interval:
            charge = (FAILED_VERIFICATION - 1) * self._interval
            for step, network in enumerate(around(network_of(address)), 1):
                self._tats[network] = gcra.spend(self._tats.get(network, 0), self._now, charge // step)

    def sweep(self, now: float) -> None:
        """Sets the clock, and forgets the addresses whose allowance is whole again."""
        self._set_clock(now)
        if len(self._tats) > _MOST_ADDRESSES // 2:
            self._tats = {a: t for a, t in self._tats.items() if t > self._now}
        if len(self._tats) > _MOST_ADDRESSES:
            self._tats.clear()

    def _set_clock(self, now: float) -> None:
        self._now = int(now * _SECOND)
        self._latest = gcra.latest(self._now, self._interval, self._burst)


class Limits:
    """The allowances of addresses and of callers."""

    def __init__(self, addresses: Addresses, leases: LimitLeases) -> None:
        self.addresses = addresses
        self.leases = leases
        self.admit_address = addresses.admit
        self.punish_address = addresses.punish

    def spend(self, request: ProxyRequest, limit: Limit, now: int) -> bytes:
        """Spends one request of the caller's allowance at this route; returns the answer's fields, now with RateLimit."""
        route = request.route
        lease = scarce = self.leases.of(f"{route.service}:{route.name}:{_holder(request, limit)}", limit)
        admitted = lease.spend(now, self.leases.workers)
        if admitted and _COLON in request.client and _by_address(request, limit):
            for times, network in zip(_WIDER, around(network_of(request.client))[1:], strict=False):
                key = f"{route.service}:{route.name}:a:{network.decode()}"
                scarce = self.leases.of(key, _wider(limit, times))
                admitted = scarce.spend(now, self.leases.workers)
                if not admitted:
                    break
        name = route.name.encode()
        headers = b'RateLimit-Policy: "%b";q=%d;w=%d\r\nRateLimit: "%b";r=%d;t=%d' % (
            *(name, limit.rate, ceil(limit.per_seconds)),
            *(name, *lease.show(now, admitted)),
        )
        request.response_headers = (
            b"\r\n".join((request.response_headers, headers)) if request.response_headers else headers
        )
        if not admitted:
            raise RouteLimited(headers={"Retry-After": str(max(1, -(-scarce.wait(now) // SECOND)))})
        return request.response_headers


def _holder(request: ProxyRequest, limit: Limit) -> str:
    """Whose allowance a limit counts: the address's, or the subject's with this client."""
    caller = request.caller
    if caller is None or _by_address(request, limit):
        return "a:" + network_of(request.client).decode("latin-1")
    return f"c:{caller.subject}:{caller.client_id}"


def _by_address(request: ProxyRequest, limit: Limit) -> bool:
    return limit.by == "address" or request.caller is None


@lru_cache
def _wider(limit: Limit, times: int) -> Limit:
    return limit.model_copy(update={"rate": limit.rate * times, "burst": (limit.burst or limit.rate) * times})
