"""The connections to one address of a service: kept alive, opened a few at a time, never more than a bound."""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway import tcp
from gateway.policy.rate_limits import AddressLimited
from gateway.rate_limit.per_address import PerAddress
from gateway.upstream.connection import Connection
from gateway.upstream.exceptions import Overloaded
from service_kit.problems import Problem

if TYPE_CHECKING:
    from gateway.upstream.exchange import Exchange
    from gateway.upstream.upstream import Upstream

# A burst of openings would overrun the listener's backlog, and a dropped SYN costs a second.
_OPENING_AT_ONCE: Final = 64
_SOON: Final = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections and exchanges (those that wait included) an address may have; deadlines in seconds."""

    connections: int = 2560
    outstanding: int = 4096
    connect_seconds: float = 0.45
    idle_seconds: float = 15.0
    vanished_seconds: float = 60.0

    @property
    def uploads(self) -> int:
        """Connections that may wait for the rest of a body: the others are for whoever has said all."""
        return max(1, self.connections // 2)

    @property
    def uploads_of_address(self) -> int:
        """Those of them that one client's address may have."""
        return max(1, self.uploads // 4)

    @property
    def long_lived(self) -> int:
        """Connections that WebSockets, event streams and other long responses may have: the others are for whoever asks
        and has an answer."""
        return max(1, self.connections * 3 // 4)

    @property
    def long_lived_of_address(self) -> int:
        """Those of them that one client's address may have."""
        return max(1, self.long_lived // 4)


class Pool:
    """One address: its idle connections, and the exchanges that wait for one."""

    def __init__(self, upstream: "Upstream", host: str, port: int) -> None:
        self.upstream = upstream
        self.host = host
        self.port = port
        self.internal = (host, port)  # where it says whether it is ready
        self.ready = True
        self.was_ready = True  # since it was seen to listen
        self.release = ""
        self.removed = False  # the name no longer leads here
        self.outstanding = 0  # exchanges that were given to this address and are not over
        self.turn = 0
        self.uploads = 0  # those of them whose body is still coming
        self.uploaders = PerAddress(upstream.bounds.uploads_of_address)
        self._long_lived: dict[Connection, bytes] = {}  # with the client's network that it is counted for
        self._long_lived_of_address = PerAddress(upstream.bounds.long_lived_of_address)
        self.new = True
        self.failures = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.responded_at = 0.0  # when the last answer began, by perf_counter
        self.open = 0
        self.waiting: deque[Exchange] = deque()
        self._opening = 0
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> int:
        return len(self._idle)

    def serve(self, exchange: "Exchange") -> None:
        """Gives the exchange a connection, at once or when there is one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.lost and not connection.transport.is_closing():
                exchange.attach(connection, reused=True)
                return
        self.waiting.append(exchange)
        self._open_more()

    def count_long_lived(self, connection: Connection, network: bytes) -> Problem | None:
        """Counts a connection as taken for long, until it is put back or gone; returns why it may not be."""
        if len(self._long_lived) >= self.upstream.bounds.long_lived:
            return Overloaded(headers=_SOON)
        if not self._long_lived_of_address.take(network):
            return AddressLimited(headers=_SOON)
        self._long_lived[connection] = network
        return None

    def _forget_long_lived(self, connection: Connection) -> None:
        network = self._long_lived.pop(connection, None)
        if network is not None:
            self._long_lived_of_address.leave(network)

    def put_back(self, connection: Connection) -> None:
        """A connection whose exchange is over: to the next that waits, else idle."""
        self._forget_long_lived(connection)
        if not connection.transport.is_reading():
            connection.transport.resume_reading()
        if self.waiting and (exchange := self.next_waiting()) is not None:
            exchange.attach(connection, reused=True)
        elif self.removed:
            connection.close()
        else:
            connection.idle_since = self.upstream.clock.now
            self._idle.append(connection)

    def forget(self, exchange: "Exchange") -> None:
        """An exchange that waited is over."""
        with contextlib.suppress(ValueError):
            self.waiting.remove(exchange)

    def gone(self, connection: Connection) -> None:
        """The connection is closed, by whom ever."""
        self.open -= 1
        self._forget_long_lived(connection)
        if connection.exchange is None and connection in self._idle:
            self._idle.remove(connection)
        if self.waiting:
            self._open_more()

    def retire(self) -> None:
        """The name no longer leads here: nothing new comes, idle connections go."""
        self.removed = True
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    def sweep(self, now: float) -> None:
        """Closes what was idle for longer than the upstream is sure to keep it."""
        idle = self._idle
        while idle and now - idle[0].idle_since > self.upstream.bounds.idle_seconds:
            idle.pop(0).transport.close()

    def next_waiting(self) -> "Exchange | None":
        """Takes whoever has waited longest and still does."""
        while self.waiting:
            exchange = self.waiting.popleft()
            if not exchange.over:
                return exchange
        return None

    def _open_more(self) -> None:
        while (
            self._opening < _OPENING_AT_ONCE
            and self._opening < len(self.waiting)
            and self.open < self.upstream.bounds.connections
        ):
            self._opening += 1
            self.open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.upstream.bounds.connect_seconds):
                await self.upstream.resolve_again()
                if self.removed:
                    raise ConnectionError("the name no longer leads to this address")
                transport, connection = await loop.create_connection(
                    lambda: Connection(self), self.host, self.port
                )
            tcp.tune_upstream(transport.get_extra_info("socket"), self.upstream.bounds.vanished_seconds)
        except (OSError, TimeoutError) as error:
            self.open -= 1
            self._opening -= 1
            self.upstream.connect_failed(self, error)
            self._open_more()
            return
        self._opening -= 1
        exchange = self.next_waiting()
        if exchange is None:
            connection.idle_since = self.upstream.clock.now
            self._idle.append(connection)
        else:
            exchange.attach(connection, reused=False)
        self._open_more()
