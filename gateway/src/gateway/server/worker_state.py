"""What all connections of a worker share: the pipeline, the upstreams, the access log, the clock, the bounds."""

import asyncio
import logging
from collections.abc import Callable
from heapq import nsmallest
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp

from gateway import tcp
from gateway.clock import Clock
from gateway.config import Settings
from gateway.pipeline import Pipeline
from gateway.policy.rate_limits import AddressLimited
from gateway.policy.response_revocations import ResponseRevocations
from gateway.rate_limit.per_address import PerAddress
from gateway.routing.endpoints import Endpoints
from gateway.routing.route_table import RouteTable
from gateway.server import half_closed
from gateway.server.access_log import AccessLog
from gateway.server.listener import Listener
from gateway.server.long_lived import LongLivedConnections
from gateway.server.slow_readers import SlowReaders
from gateway.upstream.exceptions import Overloaded
from gateway.upstream.pool import Bounds
from gateway.upstream.request_body import Bodies
from gateway.upstream.upstream import Upstream
from service_kit import background
from service_kit.jwks import FetchOutcome, KeyCache
from service_kit.problems import Problem

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

_log = logging.getLogger("gateway")
TICK_SECONDS: Final = 0.1
_FORGOTTEN_SECONDS: Final = (
    60.0  # after its last route a service may still get a body that was being collected
)
# Of all connections so many give way at once, for to find them takes a look at each; after one in vain none for a while.
_IDLE_SHARE: Final = 1 / 100
_LOOK_SECONDS: Final = 0.5
_KEY_PLACES: Final = 64
_KEY_SECONDS: Final = 1.0


def own_headers(settings: Settings) -> bytes:
    """What is on every answer: HSTS and nosniff belong to the gateway alone."""
    headers = b"X-Content-Type-Options: nosniff"
    if settings.hsts_for:
        headers += b"\r\nStrict-Transport-Security: max-age=%d" % settings.hsts_for
    return headers


class KeyPlaces:
    """Where requests wait for an unknown key: few places, not for long."""

    def __init__(self, keys: KeyCache) -> None:
        self._keys = keys
        self._free = _KEY_PLACES

    def take(self) -> bool:
        """Takes a place; False if there is none. look() gives it back."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def look(self, kid: str) -> FetchOutcome:
        try:
            async with asyncio.timeout(_KEY_SECONDS):
                return await self._keys.fetch_for(kid)
        except TimeoutError:
            return FetchOutcome.UNAVAILABLE
        finally:
            self._free += 1


class WorkerState:
    """Made in main.create_app, found by every connection in the lifespan's state."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        keys: KeyCache,
        access_log: AccessLog,
        portal: ASGIApp,
        long_lived: LongLivedConnections,
        response_revocations: ResponseRevocations,
        listener: Listener | None = None,
        where: Callable[[str], Endpoints] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.access_log = access_log
        self.portal = portal
        self.long_lived = long_lived
        self.response_revocations = response_revocations
        self.listener = listener
        self.key_places = KeyPlaces(keys)
        self.clock = Clock()
        self.open_connections: set[ClientConnection] = set()
        self.ahead = 0  # bytes of requests that wait for earlier ones of their connections
        self.exchanges = PerAddress(settings.address_exchanges)
        self.half_closed = half_closed.HalfClosed()
        self.slow_readers = SlowReaders()
        self.bodies = Bodies(settings.body_seconds, settings.body_least_rate)
        self.internal_port = settings.internal_port
        self.own_headers = own_headers(settings)
        self.connections_max = min(settings.connections_max, tcp.most_connections())
        self._look_again = 0.0
        of_address = settings.address_connections
        if self.connections_max < settings.connections_max:
            _log.warning(
                "at most %d connections instead of %d: a process may open few files here (ulimit -Hn)",
                *(self.connections_max, settings.connections_max),
            )
            of_address = of_address and min(of_address, max(1, int(self.connections_max // 4)))
        self.connections = PerAddress(of_address)
        self.head_seconds = settings.head_seconds
        self.keepalive_seconds = settings.keepalive_seconds
        self.idle_seconds = settings.idle_seconds
        self._where = where or settings.endpoints_of
        self._probing = settings.upstream_probe == "on"
        self._bounds = Bounds(
            connections=settings.upstream_connections,
            outstanding=settings.upstream_outstanding,
            connect_seconds=settings.connect_seconds,
            idle_seconds=settings.upstream_idle_seconds,
            vanished_seconds=settings.vanished_seconds,
        )
        self._upstreams: dict[str, Upstream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def admit(
        self, connection: "ClientConnection", peer: bytes, network: bytes
    ) -> tuple[float, type[Problem]]:
        """Counts a connection; by how many there are too many, in all or of a peer that is no trusted proxy."""
        self.open_connections.add(connection)
        own = self.connections.enter(network)
        if own > 0 and not self.pipeline.trusts(peer):
            return own, AddressLimited
        if len(self.open_connections) > self.connections_max:
            self._make_room()
        return len(self.open_connections) - self.connections_max, Overloaded

    def _make_room(self) -> None:
        """Ends some of the connections that wait for a next request, as a client has to expect: those whose time is over
        first."""
        if self.clock.now < self._look_again:
            return
        idle = [connection for connection in self.open_connections if connection.idle]
        at_once = max(1, int(len(self.open_connections) * _IDLE_SHARE))
        if len(idle) < at_once:
            self._look_again = self.clock.now + _LOOK_SECONDS
        for connection in nsmallest(at_once, idle, key=lambda connection: connection.deadline):
            connection.abort()
            self.forget(connection, connection.network)

    def forget(self, connection: "ClientConnection", network: bytes) -> None:
        if connection in self.open_connections:
            self.open_connections.remove(connection)
            self.half_closed.remove(connection)
            self.slow_readers.remove(connection)
            self.connections.leave(network)

    def use(self, table: RouteTable) -> None:
        """The routes from now on, and where their services are. Each is asked before its first request whether it is
        ready; one that has moved goes on as it is, and one that nothing leads to any more is forgotten in a while."""
        self.pipeline.routes = table.routes
        for service in table.used:
            self.upstream(service)
        for service, upstream in self._upstreams.items():
            if (endpoints := self._where(service)) != upstream.endpoints:
                upstream.move(endpoints)
            if service in table.used:
                upstream.withdrawn_at = None
            elif upstream.withdrawn_at is None:
                upstream.withdrawn_at = self.clock.now

    def upstream(self, service: str) -> Upstream:
        """The service's upstream; made when it is needed."""
        upstream = self._upstreams.get(service)
        if upstream is None:
            upstream = Upstream(
                service, self._where(service), self._bounds, self.clock, self.bodies, self._probing
            )
            self._upstreams[service] = upstream
            self._tasks[service] = asyncio.get_running_loop().create_task(
                background.run_forever(upstream.run)
            )
        return upstream

    def _forget_withdrawn(self, now: float) -> None:
        for service, upstream in tuple(self._upstreams.items()):
            since = upstream.withdrawn_at
            if since is not None and now - since > _FORGOTTEN_SECONDS and not upstream.outstanding:
                upstream.retire()
                self._tasks.pop(service).cancel()
                del self._upstreams[service]

    @property
    def upstreams(self) -> list[Upstream]:
        return list(self._upstreams.values())

    def releases(self) -> dict[str, str]:
        """What the addresses of each service say that they run."""
        return {
            service: ", ".join(
                sorted({pool.release.removeprefix(f"{service}/") for pool in upstream.addresses.every} - {""})
            )
            for service, upstream in self._upstreams.items()
        }

    async def run(self) -> None:
        """The one timer: deadlines of all connections, idle upstream connections, the access log."""
        while True:
            now = self.clock.tick()
            for connection in tuple(self.open_connections):
                if connection.deadline < now:
                    connection.expire()
            for upstream in self.upstreams:
                upstream.sweep(now)
            self._forget_withdrawn(now)
            self.response_revocations.catch_up()  # sockets wait for no request
            self.long_lived.sweep(now)
            self.half_closed.sweep(now)
            self.slow_readers.sweep()
            self.pipeline.limits.addresses.sweep(now)
            self.access_log.flush()
            await asyncio.sleep(TICK_SECONDS)

    async def stop(self) -> None:
        probes = [probe for upstream in self.upstreams for probe in upstream.addresses.probes]
        await background.end([*self._tasks.values(), *probes])
        self.access_log.flush()
