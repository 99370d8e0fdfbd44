"""The allowances of one worker: spent from memory, kept in step with all other workers' a few times a second."""

import asyncio
import logging
from collections.abc import Sequence
from itertools import count
from time import monotonic_ns
from typing import Final, NamedTuple, Protocol

from gateway.routing.routes import Limit
from service_kit import gcra

_log = logging.getLogger("gateway.limits")
SYNC_SECONDS: Final = 0.25
SECOND: Final = 1_000_000  # in the microseconds that allowances count in: Redis knows no shorter time
# A worker without any lease says that it is there each so many turns: the store forgets it after two seconds.
_CALM_TURNS: Final = 4
_MOST: Final = 100_000
_AT_ONCE: Final = 100  # what one pipeline settles: more would hold up the requests that come meanwhile


def microseconds() -> int:
    """The time of a clock that nobody can set."""
    return monotonic_ns() // 1000


class Claim(NamedTuple):
    """What a worker tells of one allowance: spent without a lease, refunded, wanted next."""

    key: str
    emission_interval: int
    burst: int
    debt: int
    refund: int
    wanted: int


class Grant(NamedTuple):
    """What it may admit until the next time, and the microseconds until the allowance is whole again."""

    requests: int
    whole_in: int


class Settlement(NamedTuple):
    """The answers to some claims, in their order, and how many workers there are."""

    grants: list[Grant]
    workers: int


class Unreachable(Exception):
    """The common store does not answer."""


class Store(Protocol):
    """Where the workers' claims meet."""

    async def sync(self, claims: Sequence[Claim]) -> Settlement: ...
    async def close(self) -> None: ...


class Nowhere:
    """Where there is no common store: each worker counts alone."""

    async def sync(self, claims: Sequence[Claim]) -> Settlement:
        raise Unreachable("LIMITS_REDIS_URL is not set")

    async def close(self) -> None:
        """There is nothing to close."""


class LimitLease:
    """What this worker may admit for one holder at one route.

    With a lease, what was leased. Without one (before the first answer, after a pause, while the store is away) a
    GCRA of this worker's share: every admission counts as if each of the others had admitted one too.
    """

    __slots__ = (
        "_burst",
        "_debt",
        "_interval",
        "_leased",
        "_left",
        "_refused",
        "_shown",
        "_spent",
        "_tat",
        "_window",
        "_window_ends",
        "key",
        "limit",
    )

    def __init__(self, key: str, limit: Limit) -> None:
        self.key = key
        self.limit = limit
        self._burst = limit.burst or limit.rate
        self._window = max(1, round(limit.per_seconds * SECOND))
        self._interval = max(1, round(limit.per_seconds * SECOND / limit.rate))
        self._leased = False
        self._left = 0
        self._debt = 0
        self._spent = 0
        self._refused = 0
        self._tat = 0
        self._window_ends = 0
        self._shown = 0

    def spend(self, now: int, workers: int) -> bool:
        """Whether one more is admitted. The time is always in microseconds, as `microseconds` tells it."""
        admitted = self._spend_leased() if self._leased else self._spend_share(now, workers)
        if admitted:
            self._spent += 1
        else:
            self._refused += 1
        return admitted

    def _spend_leased(self) -> bool:
        if not self._left:
            return False
        self._left -= 1
        return True

    def _spend_share(self, now: int, workers: int) -> bool:
        tat = gcra.spend(self._tat, now, self._interval * workers)
        # One is admitted by an allowance that is whole, even if it is smaller than there are workers.
        if self._tat > now and tat > gcra.latest(now, self._interval, self._burst):
            return False
        self._tat = tat
        self._debt += 1
        return True

    def remaining(self, now: int) -> int:
        """Requests that are left to all workers together, as far as is known here."""
        free = gcra.remaining(max(self._tat, now), now, self._interval, self._burst)
        return max(0, min(self._burst, self._left + free))

    def show(self, now: int, admitted: bool) -> tuple[int, int]:
        """What RateLimit says: the requests that are left of the quota, and the seconds until the window ends.

        The allowance comes back little by little, and workers learn late of each other. But within a window what is
        shown never rises, and it is never more than the quota, whatever may come at once.
        """
        if now >= self._window_ends:
            self._window_ends = (
                now // self._window + 1
            ) * self._window  # the same for all of a machine's workers
            self._shown = self.limit.rate
        self._shown = min(self._shown, self.remaining(now) if admitted else 0)
        return self._shown, max(1, -((now - self._window_ends) // SECOND))

    def wait(self, now: int) -> int:
        """How long until the next request can be admitted."""
        tat = gcra.spend(self._tat, now, self._interval)
        return gcra.wait(tat, now, self._interval, self._burst)

    def claim(self, workers: int) -> Claim:
        """What to ask for: twice what was asked of us, or our share; after a pause all goes back."""
        demand = self._spent + self._refused
        wanted = min(self._burst, max(self._burst // workers, 2 * demand)) if demand else 0
        refund = max(0, self._left - wanted)
        self._left -= refund
        self._spent = self._refused = 0
        self._leased = self._leased and bool(demand)
        return Claim(self.key, self._interval, self._burst, self._debt, refund, max(0, wanted - self._left))

    def take(self, claim: Claim, grant: Grant, now: int) -> None:
        self._debt -= claim.debt
        self._left += grant.requests
        self._leased = bool(self._left or claim.wanted)
        self._tat = now + grant.whole_in

    def go_alone(self) -> None:
        """No answer came: what was leased is forgotten, and debts never stop a holder for longer than a burst does."""
        self._leased = False
        self._left = 0
        self._debt = min(self._debt, self._burst)

    def idle(self, now: int) -> bool:
        """Whether there is nothing to tell the others."""
        return not (self._leased or self._spent) and self._tat <= now

    def over(self, now: int) -> bool:
        """Whether forgetting it loses nothing, not even what was shown in this window."""
        return self._window_ends <= now and self.idle(now)


class LimitLeases:
    """One lease a holder and route."""

    def __init__(self, store: Store, workers: int) -> None:
        self._store = store
        self.workers = (
            workers  # as many as the settings start, until the store has counted all of all gateways
        )
        self._leases: dict[str, LimitLease] = {}
        self._alone = False

    def of(self, key: str, limit: Limit) -> LimitLease:
        lease = self._leases.get(key)
        if lease is not None and lease.limit is limit:
            return lease
        if lease is None or lease.limit != limit:
            lease = self._leases[key] = LimitLease(key, limit)
        lease.limit = limit  # the routes were read anew, and most say what they said before
        return lease

    async def run(self) -> None:
        """Settles with the other workers until cancelled."""
        try:
            for turn in count():
                await asyncio.sleep(SYNC_SECONDS)
                if self._leases or turn % _CALM_TURNS == 0:
                    await self.sync()
        finally:
            await self.close()

    async def close(self) -> None:
        await self._store.close()

    async def sync(self) -> None:
        now = microseconds()
        self._forget(now)
        leases = [lease for lease in self._leases.values() if not lease.idle(now)]
        # Without any, nothing is claimed once: it tells the others that this worker lives.
        for first in range(0, max(1, len(leases)), _AT_ONCE):
            await self._sync(leases[first : first + _AT_ONCE])

    async def _sync(self, leases: Sequence[LimitLease]) -> None:
        claims = [lease.claim(self.workers) for lease in leases]
        try:
            grants, self.workers = await self._store.sync(claims)
        except Unreachable as why:
            if not self._alone:
                _log.warning("limits are counted by each worker alone: %s", why)
            self._alone = True
            for lease in leases:
                lease.go_alone()
            return
        if self._alone:
            _log.info("limits are counted together again")
        self._alone = False
        now = microseconds()
        for lease, claim, grant in zip(leases, claims, grants, strict=True):
            lease.take(claim, grant, now)

    def _forget(self, now: int) -> None:
        self._leases = {key: lease for key, lease in self._leases.items() if not lease.over(now)}
        if len(self._leases) > _MOST:
            self._leases = {key: lease for key, lease in self._leases.items() if not lease.idle(now)}
        if len(self._leases) > _MOST:
            self._leases.clear()
