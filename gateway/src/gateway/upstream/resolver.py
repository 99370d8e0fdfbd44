"""The addresses that host names have now: asked for again and again, and never on the event loop."""

import asyncio
from typing import Final

from gateway.routing.endpoints import Address, Endpoints
from service_kit import resolver
from service_kit.resolver import SERVICE_LOOKUPS_MAX, is_literal

AGAIN_SECONDS: Final = 2.0
_ADDRESSES_MAX: Final = 64  # that a name leads to; those beyond get no request


async def resolve_host(host: str, service: str = "") -> frozenset[str]:
    """Its addresses now; none if it does not resolve, or while too many hosts of that service are looked up."""
    try:
        return await resolver.resolve_host(host, service)
    except OSError:
        return frozenset()


class Resolver:
    """The addresses that the configured hosts have now, each with its internal one."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.literal = all(is_literal(host) for host, _ in endpoints.public)
        self._lookup: asyncio.Task[dict[Address, Address]] | None = None
        self._places = asyncio.Semaphore(SERVICE_LOOKUPS_MAX)

    @property
    def written(self) -> dict[Address, Address]:
        """The addresses, where all of them are literal."""
        public = self._endpoints.public
        return {
            address: self._endpoints.internal_of(index, address[0]) for index, address in enumerate(public)
        }

    async def resolve(self) -> dict[Address, Address]:
        """Asks now, or waits for a question already under way. A host that does not resolve has no address."""
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._resolve())
            self._lookup.add_done_callback(self._forget_lookup)
        return await asyncio.shield(self._lookup)

    def _forget_lookup(self, _: object) -> None:
        self._lookup = None

    async def _resolve(self) -> dict[Address, Address]:
        found: dict[Address, Address] = {}
        hosts = self._endpoints.public
        for index, addresses in enumerate(
            await asyncio.gather(*(self._resolve_host(host) for host, _ in hosts))
        ):
            for host in sorted(addresses):
                if len(found) < _ADDRESSES_MAX:
                    found[host, hosts[index][1]] = self._endpoints.internal_of(index, host)
        return found

    async def _resolve_host(self, host: str) -> frozenset[str]:
        async with self._places:
            return await resolve_host(host)
