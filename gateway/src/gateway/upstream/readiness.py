"""The addresses of one service, and which of them get requests: those that have said that they are ready."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from gateway.routing.endpoints import Address
from gateway.upstream import probe
from gateway.upstream.pool import Pool
from service_kit import background

_log = logging.getLogger("gateway.upstream")
_MISSING: Final = 3  # times in a row that only the public bind listens: this service has no internal one


class Addresses:
    """Those that get requests are told to `serve` at each change; all of them are in `every`.

    A new address gets nothing before it has said that it is ready. One that was ready and has failed is asked again;
    meanwhile it serves only while no other is ready, because what is wrong may be the answer to that question alone.
    """

    def __init__(
        self, service: str, connect_seconds: float, probing: bool, serve: Callable[[list[Pool]], None]
    ) -> None:
        self._service = service
        self._serve = serve
        self._connect_seconds = connect_seconds
        self._probing = probing
        self._probes: dict[Pool, asyncio.Task[None]] = {}
        self._any = asyncio.Event()
        self.every: list[Pool] = []

    def use(self, found: Mapping[Address, Address], make: Callable[[str, int], Pool]) -> list[Pool]:
        """Makes these the service's addresses, each with its internal one; returns those that are retired."""
        gone = [pool for pool in self.every if (pool.host, pool.port) not in found]
        for pool in gone:
            pool.retire()
            if (task := self._probes.pop(pool, None)) is not None:
                task.cancel()
        self.every = [pool for pool in self.every if not pool.removed]
        known = {(pool.host, pool.port): pool for pool in self.every}
        for address, internal in sorted(found.items()):
            pool = known.get(address) or make(*address)
            pool.internal = internal
            if address not in known:
                self.every.append(pool)
                pool.ready = pool.was_ready = not self._probing
                if self._probing:
                    self._ask(pool)
        self._choose()
        return gone

    def doubt(self, pool: Pool) -> None:
        """It has failed: it is asked whether it is ready before it is given more, if there is another."""
        if self._probing and pool.ready and not pool.removed:
            pool.ready = False
            self._ask(pool)
            self._choose()

    async def wait(self, seconds: float) -> None:
        """Until one gets requests, if any is being asked."""
        if self._probes:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._any.wait()

    @property
    def probes(self) -> list[asyncio.Task[None]]:
        """What has to end with the worker."""
        return list(self._probes.values())

    def _choose(self) -> None:
        serving = [pool for pool in self.every if pool.ready] or [
            pool for pool in self.every if pool.was_ready
        ]
        self._serve(serving)
        if serving:
            self._any.set()
        else:
            self._any.clear()

    def _ask(self, pool: Pool) -> None:
        self._probes[pool] = asyncio.get_running_loop().create_task(
            background.run_forever(partial(self._ask_until_ready, pool))
        )

    async def _ask_until_ready(self, pool: Pool) -> None:
        address, missing, said = (pool.host, pool.port), 0, set[str]()
        while True:
            found = await probe.ask(self._service, address, pool.internal, self._connect_seconds)
            missing = missing + 1 if found.missing else 0
            if found.ready or missing == _MISSING:
                break
            if pool.was_ready and not found.listens:
                pool.was_ready = False  # whoever listens there next is new
                self._choose()
            if found.reason not in said:  # each once: an address that changes its mind fills no log
                said.add(found.reason)
                _log.info("%s at %s:%d is not ready: %s", self._service, *address, found.reason)
            await asyncio.sleep(probe.AGAIN_SECONDS)
        del self._probes[pool]
        pool.ready = pool.was_ready = True
        if missing:
            _log.warning("%s at %s:%d gets requests unasked: %s", self._service, *address, found.reason)
        elif found.release and found.release != pool.release:
            before = f", before {pool.release}" if pool.release else ""
            _log.info("%s at %s:%d runs %s%s", self._service, *address, found.release, before)
        pool.release = found.release
        self._choose()
