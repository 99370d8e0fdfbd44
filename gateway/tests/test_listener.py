"""Gateways that accept from front's socket: beside each other, one after the other, and again when front is back."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from gateway import tcp
from service_kit.follower import EPOCH, STREAM
from service_kit.testing import RedisServer, TestIssuer, free_port
from tests.process import DEADLINE, Gateway, connected, echo, serving, until

PROGRAM = Path(__file__).parents[2] / "deploy" / "front" / "front.py"
BURST = 500


class Front:
    """The process that owns the port, and what callers see there."""

    def __init__(self, folder: str) -> None:
        self.port, self.path = free_port(), Path(folder) / "socket"
        self.served = 0
        self.failed: list[str] = []

    async def start(self) -> None:
        command = (
            sys.executable,
            "-I",
            str(PROGRAM),
            "127.0.0.1",
            str(self.port),
            str(self.path),
            str(DEADLINE),
        )
        self.process = await asyncio.create_subprocess_exec(*command)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def responses(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
                return (await client.get(f"http://127.0.0.1:{self.port}/a")).status_code == 200
        except httpx.TransportError:
            return False

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Callers who keep their connections, and callers who open one for each request."""
        callers = [asyncio.create_task(self._call(keep=bool(number % 2))) for number in range(10)]
        try:
            await self.serves_more()
            yield
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def serves_more(self) -> None:
        wanted = self.served + 100
        await until(lambda: self.served >= wanted, said=f"nobody is served: {self.served} {self.failed[-3:]}")

    async def _call(self, keep: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep else 0)
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE, limits=limits) as client:
            while True:
                try:
                    response = await client.get(f"http://127.0.0.1:{self.port}/a")
                    response.raise_for_status()
                    self.served += 1
                except httpx.HTTPError as error:
                    self.failed.append(f"{keep=} {error!r}")
                await asyncio.sleep(0.02)  # the gateways that start meanwhile need the machine, too


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is at most 107 bytes long
        one = Front(folder)
        await one.start()
        try:
            yield one
        finally:
            if one.process.returncode is None:
                await one.kill()


class RunningGateways:
    """What a gateway needs to be ready: the published keys, and the stream of revocations."""

    def __init__(self, redis_url: str, keys_port: int) -> None:
        self.settings = {
            "REVOCATIONS_REDIS_URL": redis_url,
            "REVOCATIONS_REDIS_USER": "default",
            "JWKS_URL": f"http://127.0.0.1:{keys_port}/",
        }


@pytest.fixture
async def gateways(issuer: TestIssuer, redis_server: RedisServer) -> AsyncIterator[RunningGateways]:
    async def keys(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps(issuer.jwks()).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            writer.write(head % len(body) + body)
            await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(keys, "127.0.0.1", 0) as server,
        Redis.from_url(redis_server.url) as redis,
    ):
        await redis.set(EPOCH, "e" * 32)
        await redis.xadd(STREAM, {"kind": "start"})
        yield RunningGateways(redis_server.url, server.sockets[0].getsockname()[1])


async def ready(gateway: Gateway) -> bool:
    return '"ready"' in await gateway.internal("/readyz")


async def leaves(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        assert await gateway.process.wait() == 0


async def test_a_gateway_serves_what_comes_to_front_and_what_comes_to_itself(
    front: Front, tmp_path: Path
) -> None:
    async with serving(tmp_path, echo, LISTEN_FROM=str(front.path)) as gateway:
        await until(front.responses)
        assert await gateway.status("/a") == 200
        async with connected(front.port) as (reader, writer):
            writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_what_listeners_are_set_to_holds_on_fronts_socket_too(front: Front, tmp_path: Path) -> None:
    async with serving(tmp_path, echo, LISTEN_FROM=str(front.path), VANISHED_SECONDS="30"):
        await until(front.responses)
        with socket.socket(socket.AF_UNIX) as another:
            another.connect(str(front.path))
            another.sendall(b"+")
            _, passed, _, _ = await asyncio.to_thread(socket.recv_fds, another, 1, 1)
        with socket.socket(fileno=passed[0]) as listener:
            options = {
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 15,
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 30_000,
                (
                    socket.IPPROTO_TCP,
                    25,
                ): tcp.UNSENT_BYTES,  # TCP_NOTSENT_LOWAT, which Python 3.11 does not name
            }
            assert {option: listener.getsockopt(*option) for option in options} == options


async def test_a_burst_finds_room_before_anybody_accepts(front: Front, tmp_path: Path) -> None:
    async with serving(tmp_path, echo, LISTEN_FROM=str(front.path)) as gateway:
        await until(front.responses)
        os.kill(gateway.worker(), signal.SIGSTOP)
        try:
            with ExitStack() as clients:
                for _ in range(BURST):
                    # A second later it would be asked again, and not by a listener that had no room.
                    clients.enter_context(socket.create_connection(("127.0.0.1", front.port), 0.9))
        finally:
            os.kill(gateway.worker(), signal.SIGCONT)


async def test_one_gateway_is_added_and_the_old_one_stops_without_a_failed_request(
    front: Front, gateways: RunningGateways, tmp_path: Path
) -> None:
    settings = gateways.settings | {"LISTEN_FROM": str(front.path), "DRAIN_SECONDS": "2"}
    async with serving(tmp_path / "old", echo, **settings) as old:
        await until(lambda: ready(old))
        async with front.load(), serving(tmp_path / "new", echo, **settings) as new:
            await until(lambda: ready(new))
            await front.serves_more()
            await leaves(old)
            await front.serves_more()
            assert not front.failed


async def test_while_nobody_else_is_ready_a_gateway_that_leaves_accepts_until_it_goes_and_the_next_goes_on(
    front: Front, tmp_path: Path
) -> None:
    """None of them is ready here: they have neither keys nor revocations."""
    settings = {"LISTEN_FROM": str(front.path), "DRAIN_SECONDS": "2"}
    async with serving(tmp_path / "old", echo, **settings) as old:
        await until(front.responses)
        async with front.load(), serving(tmp_path / "next", echo, **settings) as following:
            assert not following.logged("accepting what comes to front")
            await leaves(old)
            await front.serves_more()
            assert following.logged("accepting what comes to front")
            assert not front.failed


async def test_a_gateway_that_cannot_serve_yet_takes_nothing_from_one_that_can(
    front: Front, gateways: RunningGateways, tmp_path: Path
) -> None:
    settings = {"LISTEN_FROM": str(front.path)}
    async with serving(tmp_path / "ready", echo, **gateways.settings, **settings) as able:
        await until(lambda: ready(able))
        async with serving(tmp_path / "starting", echo, **settings) as starting:
            assert "front has not passed its socket on" in await starting.internal("/readyz")
            assert not starting.logged("accepting what comes to front")
            await leaves(able)
            await until(front.responses)


async def test_workers_change_at_a_hup_without_a_failed_request(
    front: Front, gateways: RunningGateways, tmp_path: Path
) -> None:
    async with serving(
        tmp_path, echo, LISTEN_FROM=str(front.path), DRAIN_SECONDS="2", **gateways.settings
    ) as gateway:
        await until(lambda: ready(gateway))
        before = gateway.workers()
        async with front.load():
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda: not before & gateway.workers())
            await front.serves_more()
            assert not front.failed


async def test_when_front_was_killed_its_gateways_serve_again_as_soon_as_it_is_back(
    front: Front, tmp_path: Path
) -> None:
    async with serving(tmp_path, echo, LISTEN_FROM=str(front.path)) as gateway:
        await until(front.responses)
        workers = gateway.workers()
        async with (
            connected(front.port) as (reader, writer),
            connected(gateway.port) as (own_reader, own_writer),
        ):
            for one in (writer, own_writer):
                one.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"ok")
            await own_reader.readuntil(b"ok")
            await front.kill()
            # The network of its connections went with it, which nobody here would hear otherwise.
            with suppress(ConnectionError):
                assert await reader.read(1) == b""
            assert not await front.responses()
            await until(lambda: _not_ready(gateway))
            await front.start()
            await until(front.responses, 5, "not listening again within 5 s")
            own_writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await own_reader.readuntil(b"ok")
        assert gateway.workers() == workers


async def _not_ready(gateway: Gateway) -> bool:
    return "front has not passed its socket on" in await gateway.internal("/readyz")
