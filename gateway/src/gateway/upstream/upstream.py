"""Sends an exchange to one address of its service: breaker, choice of address, retry, and what failures teach."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.clock import Clock
from gateway.policy.rate_limits import AddressLimited
from gateway.routing.endpoints import Address, Endpoints, authority_of
from gateway.upstream import balancing
from gateway.upstream.breaker import Breaker
from gateway.upstream.concurrency import AdaptiveConcurrency
from gateway.upstream.exceptions import BreakerOpen, Overloaded, Unavailable
from gateway.upstream.pool import Bounds, Pool
from gateway.upstream.readiness import Addresses
from gateway.upstream.request_body import Bodies
from gateway.upstream.resolver import AGAIN_SECONDS, Resolver
from gateway.upstream.retries import RetryBudget

if TYPE_CHECKING:
    from gateway.upstream.exchange import Exchange

_log = logging.getLogger("gateway.upstream")
_SOON: Final = {"Retry-After": "1"}


class Upstream:
    """One service."""

    def __init__(
        self,
        name: str,
        endpoints: Endpoints,
        bounds: Bounds,
        clock: Clock,
        bodies: Bodies,
        probing: bool = False,
    ) -> None:
        self.name = name
        self.bounds = bounds
        self.bodies = bodies
        self.clock = clock
        self.breaker = Breaker()
        self.budget = RetryBudget()
        self.concurrency = AdaptiveConcurrency(bounds.outstanding)
        self.withdrawn_at: float | None = None  # when the last route that leads here went
        self.pools: list[Pool] = []  # those that get requests
        self.addresses = Addresses(name, bounds.connect_seconds, probing, self._serve_from)
        self._arriving = 0
        self._moved = asyncio.Event()
        self.move(endpoints)

    def move(self, endpoints: Endpoints) -> None:
        """The service is elsewhere from now on. What is under way ends where it began."""
        self.endpoints = endpoints
        self.authority = authority_of(*endpoints.public[0]).encode()
        self._resolver = Resolver(endpoints)
        if self._resolver.literal:
            self._use(self._resolver.written)
        self._moved.set()

    @property
    def outstanding(self) -> int:
        return sum(pool.outstanding for pool in self.addresses.every)

    def send(self, exchange: "Exchange") -> None:
        """Gives the exchange to an address, or refuses it."""
        now = self.clock.now
        if self.breaker.open:
            if not self.breaker.admits(now):
                exchange.refuse(BreakerOpen(headers=_SOON))
                return
            # Else it finds out whether the service is back: no crowd keeps it from that.
        elif self.concurrency.waiting >= self.concurrency.limit:
            exchange.refuse(Overloaded(headers=_SOON))
            return
        self.budget.requests += 1
        self._give(exchange, now)

    def _give(self, exchange: "Exchange", now: float) -> None:
        pools = self.pools
        pool = pools[0] if len(pools) == 1 else balancing.choose(pools, now, exchange.pool)
        if pool is None:
            # Before the first resolution, while the name leads nowhere, or while nobody is ready: ask, then decide.
            if self._arriving >= self.bounds.outstanding:
                exchange.refuse(Overloaded(headers=_SOON))
                return
            exchange.resolving = asyncio.get_running_loop().create_task(self._resolve_and_give(exchange))
        elif pool.outstanding >= self.bounds.outstanding or (
            not exchange.body_done and pool.uploads >= self.bounds.uploads
        ):
            exchange.refuse(Overloaded(headers=_SOON))
        elif not exchange.enter(pool):
            exchange.refuse(AddressLimited(headers=_SOON))
        else:
            pool.serve(exchange)

    async def _resolve_and_give(self, exchange: "Exchange") -> None:
        self._arriving += 1
        try:
            await self.resolve_again()
            await self.addresses.wait(self.bounds.connect_seconds)
        finally:
            self._arriving -= 1
        if exchange.over:
            return
        if self.pools:
            self._give(exchange, self.clock.now)
        else:
            self.breaker.failed(self.clock.now)
            nowhere = (
                "none of its addresses is ready" if self.addresses.every else "its name leads to no address"
            )
            exchange.refuse(Unavailable(nowhere, headers=_SOON))

    def connect_failed(self, pool: Pool, error: Exception) -> None:
        """No connection could be opened. Nothing was sent, so an exchange may go elsewhere whatever its method."""
        now = self.clock.now
        exchange = pool.next_waiting()
        # A replica has its name before it listens, and for a moment after it is gone: the others are the service.
        elsewhere = any(other is not pool and other.ejected_until <= now for other in self.pools)
        if not elsewhere:
            self.breaker.failed(now)
        if balancing.failed(pool, now) or isinstance(error, ConnectionRefusedError):
            self.addresses.doubt(pool)
        if exchange is not None:
            exchange.leave()
            if exchange.attempts == 0 and (elsewhere or self.budget.take(now)):
                exchange.attempts = 1
                self._give(exchange, now)
            else:
                _log.warning("%s at %s:%d cannot be reached: %r", self.name, pool.host, pool.port, error)
                exchange.refuse(Unavailable(headers=_SOON))
        if self.breaker.open:
            while pool.waiting:
                waiting = pool.waiting.popleft()
                if not waiting.over:
                    waiting.refuse(BreakerOpen(headers=_SOON))

    def retry(self, exchange: "Exchange") -> bool:
        """Sends the exchange once more, if the budget allows it. The caller made sure that it may be repeated."""
        if (
            exchange.attempts
            or not self.breaker.admits(self.clock.now)
            or not self.budget.take(self.clock.now)
        ):
            return False
        exchange.attempts = 1
        self._give(exchange, self.clock.now)
        return True

    def succeeded(self, pool: Pool) -> None:
        if self.breaker.failures:
            self.breaker.succeeded()
        if pool.new or pool.failures or pool.ejections:
            balancing.succeeded(pool)

    def failed(self, pool: Pool) -> None:
        self.breaker.failed(self.clock.now)
        if balancing.failed(pool, self.clock.now):
            self.addresses.doubt(pool)

    def timed_out(self, pool: Pool, since: float) -> None:
        """No answer has come to what was asked at `since`, by perf_counter. A service that has answered others in the
        meantime is slow, not down: whoever asks for something else of it must not be refused."""
        if pool.responded_at < since and balancing.failed(pool, self.clock.now):
            self.addresses.doubt(pool)
        if all(each.responded_at < since for each in self.pools):
            self.breaker.failed(self.clock.now)

    async def resolve_again(self) -> None:
        """Asks the name service before each opening, so that a stranger at an old address gets nothing."""
        names = self._resolver
        if not names.literal:
            found = await names.resolve()
            if names is self._resolver:
                self._use(found)

    async def run(self) -> None:
        """Keeps names fresh, so that new replicas get their share and connections to gone ones are closed."""
        while True:
            self._moved.clear()
            await self.resolve_again()
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._moved.wait()

    def sweep(self, now: float) -> None:
        self.budget.sweep(now)
        self.concurrency.sweep(now)
        for pool in self.addresses.every:
            pool.sweep(now)

    def retire(self) -> None:
        """Nobody is led here any more."""
        self._use({})

    def _use(self, found: Mapping[Address, Address]) -> None:
        for pool in self.addresses.use(found, partial(Pool, self)):
            # Whoever waited there has not been sent.
            while (exchange := pool.next_waiting()) is not None:
                exchange.leave()
                self._give(exchange, self.clock.now)

    def _serve_from(self, pools: list[Pool]) -> None:
        if pools and not self.pools:
            self.breaker.succeeded()  # it opened because nobody was there
        self.pools = pools
