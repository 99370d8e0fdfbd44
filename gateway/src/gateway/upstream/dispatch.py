"""Sends an exchange to one address of its service: breaker, choice of address, retry, and what failures teach."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from gateway.clock import Clock
from gateway.limits import AddressLimited
from gateway.upstream import balancing
from gateway.upstream.bodies import Bodies
from gateway.upstream.breaker import Breaker
from gateway.upstream.crowd import Crowd
from gateway.upstream.exceptions import BreakerOpen, Overloaded, Unavailable
from gateway.upstream.names import AGAIN_SECONDS, Address, Names
from gateway.upstream.pool import Bounds, Exchange, Pool
from gateway.upstream.retries import RetryBudget

_log = logging.getLogger("gateway.upstream")
_SOON: Final = {"Retry-After": "1"}


class Upstream:
    """One service."""

    def __init__(
        self, name: str, hosts: Sequence[Address], bounds: Bounds, clock: Clock, bodies: Bodies
    ) -> None:
        self.name = name
        self.bounds = bounds
        self.bodies = bodies
        self.clock = clock
        self.breaker = Breaker()
        self.budget = RetryBudget()
        self.crowd = Crowd(bounds.outstanding)
        host, port = hosts[0]
        self.authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
        self._names = Names(hosts)
        self.pools: list[Pool] = []
        if self._names.literal:
            self._use(set(hosts))

    def send(self, exchange: Exchange) -> None:
        """Gives the exchange to an address, or refuses it."""
        now = self.clock.now
        if self.breaker.open:
            if not self.breaker.admits(now):
                exchange.refuse(BreakerOpen(headers=_SOON))
                return
            # Else it finds out whether the service is back: no crowd keeps it from that.
        elif self.crowd.waiting >= self.crowd.limit:
            exchange.refuse(Overloaded(headers=_SOON))
            return
        self.budget.requests += 1
        self._give(exchange, now)

    def _give(self, exchange: Exchange, now: float) -> None:
        pools = self.pools
        pool = pools[0] if len(pools) == 1 else balancing.choose(pools, now, exchange.pool)
        if pool is None:
            # Before the first resolution, or while the name leads nowhere: ask, then decide.
            exchange.resolving = asyncio.get_running_loop().create_task(self._resolve_and_give(exchange))
        elif pool.outstanding >= self.bounds.outstanding or (
            not exchange.body_done and pool.uploads >= self.bounds.uploads
        ):
            exchange.refuse(Overloaded(headers=_SOON))
        elif not exchange.enter(pool):
            exchange.refuse(AddressLimited(headers=_SOON))
        else:
            pool.serve(exchange)

    async def _resolve_and_give(self, exchange: Exchange) -> None:
        await self.resolve_again()
        if exchange.over:
            return
        if self.pools:
            self._give(exchange, self.clock.now)
        else:
            self.breaker.failed(self.clock.now)
            exchange.refuse(Unavailable("its name leads to no address", headers=_SOON))

    def connect_failed(self, pool: Pool, error: Exception) -> None:
        """No connection could be opened. Nothing was sent, so an exchange may go elsewhere whatever its method."""
        now = self.clock.now
        exchange = pool.next_waiting()
        # A replica has its name before it listens, and for a moment after it is gone: the others are the service.
        elsewhere = any(other is not pool and other.ejected_until <= now for other in self.pools)
        if not elsewhere:
            self.breaker.failed(now)
        balancing.failed(pool, now)
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

    def retry(self, exchange: Exchange) -> bool:
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
        balancing.failed(pool, self.clock.now)

    def timed_out(self, pool: Pool, since: float) -> None:
        """No answer has come to what was asked at `since`, by perf_counter. A service that has answered others in the
        meantime is slow, not down: whoever asks for something else of it must not be refused."""
        if pool.answered_at < since:
            balancing.failed(pool, self.clock.now)
        if all(each.answered_at < since for each in self.pools):
            self.breaker.failed(self.clock.now)

    async def resolve_again(self) -> None:
        """Asks the name service before each opening, so that a stranger at an old address gets nothing."""
        if not self._names.literal:
            self._use(await self._names.resolve())

    async def run(self) -> None:
        """Keeps names fresh, so that new replicas get their share and connections to gone ones are closed."""
        while not self._names.literal:
            await self.resolve_again()
            await asyncio.sleep(AGAIN_SECONDS)

    def sweep(self, now: float) -> None:
        self.budget.sweep(now)
        self.crowd.sweep(now)
        for pool in self.pools:
            pool.sweep(now)

    def _use(self, addresses: set[Address]) -> None:
        kept = [pool for pool in self.pools if (pool.host, pool.port) in addresses]
        for pool in self.pools:
            if (pool.host, pool.port) not in addresses:
                pool.retire()
        present = {(pool.host, pool.port) for pool in kept}
        self.pools = kept + [Pool(self, host, port) for host, port in sorted(addresses - present)]
