"""A TCP proxy that misbehaves on request: one listener an edge, toxics set and lifted while it runs.

Standard library alone: in a compose network it runs from this folder in a plain Python image.

    python -m gatehouse_e2e.toxics --control 8474 gateway-to-user-service=8101:user-service:8000

The control port speaks JSON lines: {"edge": name, "toxics": [{"kind": "latency", "ms": 200}]} sets
an edge's toxics ([] lifts them all); {"edge": name} alone only asks. The answer is the edge's state.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CHUNK = 65_536
# More than this on its way through one direction stops the reading: the proxy must not hide backpressure.
HELD_AT_MOST = 262_144

Kind = Literal["latency", "bandwidth", "slow_close", "timeout", "drop", "reset", "slice", "limit", "down"]
Direction = Literal["up", "down", "both"]


@dataclass(frozen=True, slots=True)
class Toxic:
    """One misbehaviour of an edge.

    latency     every byte comes `ms` (give or take `jitter_ms`) late, in order
    bandwidth   `bytes_per_second` at most
    slow_close  the end of the stream comes `ms` late
    timeout     nothing passes; after `ms` the connection is closed (0: never)
    drop        nothing passes on what is open, and a new connection's SYN gets no answer
    reset       what is open, and what comes, is reset after `ms`
    slice       pieces of `size` bytes, `ms` apart
    limit       the connection is closed after `size` bytes
    down        no listener: new connections are refused, open ones reset
    """

    kind: Kind
    ms: float = 0
    jitter_ms: float = 0
    bytes_per_second: float = 0
    size: int = 0
    toward: Direction = "both"

    def applies(self, direction: Direction) -> bool:
        return self.toward in ("both", direction)


@dataclass(slots=True)
class Edge:
    """One listener, the address behind it, and what is wrong between them."""

    name: str
    host: str
    port: int
    listen: int = 0
    bind: str = "127.0.0.1"
    toxics: tuple[Toxic, ...] = ()
    accepted: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _links: set[Link] = field(default_factory=set)
    _plug: list[socket.socket] = field(default_factory=list)

    def find(self, kind: Kind, direction: Direction = "both") -> Toxic | None:
        for toxic in self.toxics:
            if toxic.kind == kind and (direction == "both" or toxic.applies(direction)):
                return toxic
        return None

    def state(self) -> dict[str, Any]:
        return {
            "edge": self.name,
            "listen": self.listen,
            "open": len(self._links),
            "accepted": self.accepted,
            "toxics": [asdict(toxic) for toxic in self.toxics],
        }

    async def change(self, toxics: tuple[Toxic, ...]) -> None:
        self.toxics = toxics
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._unplug()
        if self.find("drop"):
            await self._close_listener()
            await self._plug_listener()
        elif self.find("down"):
            await self._close_listener()
            for link in tuple(self._links):
                link.reset()
        else:
            await self.open()
        if reset := self.find("reset"):
            for link in tuple(self._links):
                link.reset_after(reset.ms / 1000)

    async def wait_change(self, seconds: float | None = None) -> bool:
        """True once the toxics changed, False when the time ran out first."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.bind, self.listen)
            self.listen = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._unplug()
        await self._close_listener()
        for link in tuple(self._links):
            link.reset()

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _plug_listener(self) -> None:
        """Leave a listener whose accept queue is full: Linux then drops every further SYN."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((self.bind, self.listen))
        listener.listen(0)
        self._plug = [listener]
        to = "127.0.0.1" if self.bind == "0.0.0.0" else self.bind
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            self._plug.append(filler)
            with contextlib.suppress(BlockingIOError):
                filler.connect((to, self.listen))
            await asyncio.sleep(0.01)

    def _unplug(self) -> None:
        for plug in self._plug:
            plug.close()
        self._plug = []

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = Link(self, writer)
        self._links.add(link)
        try:
            await link.run(reader)
        finally:
            self._links.discard(link)


class Link:
    """One connection through an edge: two directions that end together."""

    def __init__(self, edge: Edge, client: asyncio.StreamWriter) -> None:
        self._edge = edge
        self._writers = [client]
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._passed = 0

    async def run(self, reader: asyncio.StreamReader) -> None:
        try:
            if reset := self._edge.find("reset"):
                self.reset_after(reset.ms / 1000)
            upstream, server = await asyncio.open_connection(self._edge.host, self._edge.port)
            self._writers.append(server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, server, "up"))
                both.create_task(self._pass(upstream, self._writers[0], "down"))
        except* (OSError, _Closed):
            self.reset()
        except* asyncio.CancelledError:
            self.reset()  # how `reset` ends a link: nothing above us waits for the cancellation
        finally:
            for writer in self._writers:
                writer.close()

    def reset_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.reset)

    def reset(self) -> None:
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and not writer.transport.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        """Read ahead with each piece's arrival noted, so that latency delays and does not add up."""
        held: deque[tuple[float, bytes]] = deque()
        more, room = asyncio.Event(), asyncio.Event()
        clock = asyncio.get_running_loop().time

        async def take() -> None:
            while True:
                data = await reader.read(CHUNK)
                held.append((clock(), data))
                more.set()
                if not data:
                    return
                while sum(len(piece) for _, piece in held) > HELD_AT_MOST:
                    room.clear()
                    await room.wait()

        async def give() -> None:
            while True:
                while not held:
                    more.clear()
                    await more.wait()
                arrived, data = held[0]
                await self._hold_back(direction)
                await self._delay(direction, arrived)
                held.popleft()
                room.set()
                if not data:
                    if slow := self._edge.find("slow_close", direction):
                        await asyncio.sleep(slow.ms / 1000)
                    writer.write_eof()
                    return
                await self._give(writer, data, direction)

        async with asyncio.TaskGroup() as pair:
            pair.create_task(take())
            pair.create_task(give())

    async def _hold_back(self, direction: Direction) -> None:
        while True:
            if self._edge.find("drop", direction):
                await self._edge.wait_change()
            elif stuck := self._edge.find("timeout", direction):
                if not await self._edge.wait_change(stuck.ms / 1000 or None):
                    raise _Closed
            else:
                return

    async def _delay(self, direction: Direction, arrived: float) -> None:
        while late := self._edge.find("latency", direction):
            due = arrived + max(0, late.ms + random.uniform(-late.jitter_ms, late.jitter_ms)) / 1000
            left = due - asyncio.get_running_loop().time()
            if left <= 0 or not await self._edge.wait_change(left):
                return

    async def _give(self, writer: asyncio.StreamWriter, data: bytes, direction: Direction) -> None:
        for piece in self._pieces(data, direction):
            if limit := self._edge.find("limit", direction):
                piece = piece[: max(0, limit.size - self._passed)]
                self._passed += len(piece)
            if piece:
                writer.write(piece)
                await writer.drain()
            if limit and self._passed >= limit.size:
                raise _Closed
            if slow := self._edge.find("bandwidth", direction):
                await self._edge.wait_change(len(piece) / slow.bytes_per_second)
            if sliced := self._edge.find("slice", direction):
                await self._edge.wait_change(sliced.ms / 1000)

    def _pieces(self, data: bytes, direction: Direction) -> Iterator[bytes]:
        size = len(data)
        if sliced := self._edge.find("slice", direction):
            size = sliced.size
        elif slow := self._edge.find("bandwidth", direction):
            size = max(1, int(slow.bytes_per_second / 20))
        for start in range(0, len(data), size):
            yield data[start : start + size]


class _Closed(Exception):
    """A toxic ended the connection."""


class ToxicProxy:
    """All edges of one process, and the control port."""

    def __init__(self, edges: list[Edge]) -> None:
        self.edges = {edge.name: edge for edge in edges}
        self.control_port = 0

    @contextlib.asynccontextmanager
    async def running(self, bind: str = "127.0.0.1", control: int = 0) -> AsyncIterator[ToxicProxy]:
        server = await asyncio.start_server(self._serve_control, bind, control)
        self.control_port = server.sockets[0].getsockname()[1]
        for edge in self.edges.values():
            edge.bind = bind
            await edge.open()
        try:
            yield self
        finally:
            server.close()
            for edge in self.edges.values():
                await edge.close()

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                asked = json.loads(line)
                edge = self.edges[asked["edge"]]
                if "toxics" in asked:
                    await edge.change(tuple(Toxic(**toxic) for toxic in asked["toxics"]))
                answer = edge.state()
            except (KeyError, TypeError, ValueError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


class ToxicControl:
    """The harness's side of the control port."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def set(self, edge: str, *toxics: Toxic) -> dict[str, Any]:
        return self._ask({"edge": edge, "toxics": [asdict(toxic) for toxic in toxics]})

    def clear(self, edge: str) -> dict[str, Any]:
        return self.set(edge)

    def state(self, edge: str) -> dict[str, Any]:
        return self._ask({"edge": edge})

    @contextlib.contextmanager
    def toxic(self, edge: str, *toxics: Toxic) -> Iterator[None]:
        """The edge is ill inside the block, and well after it."""
        self.set(edge, *toxics)
        try:
            yield
        finally:
            self.clear(edge)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with socket.create_connection(self._address, timeout=5) as link, link.makefile("rwb") as lines:
            lines.write(json.dumps(message).encode() + b"\n")
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def parse_edge(text: str) -> Edge:
    """`name=listen:host:port`."""
    name, _, rest = text.partition("=")
    listen, host, port = rest.split(":")
    return Edge(name, host, int(port), int(listen))


async def _serve(arguments: argparse.Namespace) -> None:
    proxy = ToxicProxy([parse_edge(text) for text in arguments.edges])
    async with proxy.running(arguments.bind, arguments.control):
        state = {edge.name: edge.listen for edge in proxy.edges.values()}
        print(json.dumps({"control": proxy.control_port, "edges": state}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A TCP proxy that misbehaves on request.")
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--control", type=int, default=0)
    parser.add_argument("edges", nargs="+", metavar="NAME=LISTEN:HOST:PORT")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
