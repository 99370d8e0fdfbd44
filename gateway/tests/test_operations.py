"""A real gunicorn under load: reloads, new routes, draining, and counts that add up across workers."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from service_kit.testing import free_port

ROUTE = '[[routes]]\nname = "{name}"\npath = "{path}"\nmethods = ["GET"]\naccess = "public"\n'
DEADLINE = 90.0  # a bound for busy machines; every wait ends as soon as what it waits for is there


class Gateway:
    """The master process, and how to talk to it."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.port, self.internal_port = free_port(), free_port()
        self.routes = folder / "routes.d" / "echo" / "echo.toml"
        self.log = folder / "log"
        self.routes.parent.mkdir(parents=True)
        self.write_routes("/a")
        self.environment = os.environ | {
            "ADDRESS_RATE": "0",  # all the load comes from one address
            "PUBLIC_PORT": str(self.port),
            "INTERNAL_PORT": str(self.internal_port),
            "ROUTES_DIR": str(folder / "routes.d"),
            "UPSTREAMS": f'{{"echo": "127.0.0.1:{upstream_port}"}}',
            "PUBLIC_URL": "http://localhost:8080",
            "JWKS_URL": "http://127.0.0.1:1/",
            "REVOCATIONS_REDIS_URL": "redis://127.0.0.1:1/0",
            "METRICS_DIR": str(folder / "metrics"),
            "SECRETS_DIR": str(folder),
            "DRAIN_SECONDS": "1",
            "GRACEFUL_SECONDS": "10",
            "ROUTES_WATCH_SECONDS": "0.1",
        }
        self.process: asyncio.subprocess.Process

    def write_routes(self, *paths: str) -> None:
        new = self.routes.with_suffix(".new")
        new.write_text("\n".join(ROUTE.format(name=path.strip("/"), path=path) for path in paths))
        new.replace(self.routes)

    async def start(self) -> None:
        command = (
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:gateway.gunicorn_conf",
            "gateway.main:serve()",
        )
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=self.environment, stdout=log, stderr=log
            )

    def workers(self) -> set[str]:
        """The master's children."""
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()

    async def status(self, path: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{self.port}{path}")).status_code
            except httpx.TransportError:
                return 0

    async def internal(self, path: str) -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{self.internal_port}{path}")).text

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = (await self.internal("/metrics")).splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )


async def until(what: Callable[[], Awaitable[Any]] | Callable[[], Any]) -> None:
    """Waits for a condition, not for a time."""
    ends = time.monotonic() + DEADLINE
    while True:
        found = what()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < ends, "it did not come"
        await asyncio.sleep(0.05)


class Load:
    """A few clients that ask over and over, on kept connections, and go elsewhere when they are asked to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.served = 0
        self.asked_to_go = 0
        self.failed: list[str] = []
        self._over = False
        self._tasks = [asyncio.create_task(self._client()) for _ in range(8)]

    async def stop(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self._over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return  # nobody listens any more: the end of the load, not a request that failed
            answered = False
            try:
                while not self._over and await self._ask(reader, writer):
                    answered = True
            except ConnectionResetError as error:
                if not answered:
                    return  # it waited in the listener's queue when that was closed: as good as refused
                self.failed.append(repr(error))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failed.append(repr(error))
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        if not head.startswith(b"HTTP/1.1 200"):
            self.failed.append(head.decode())
        self.served += 1
        close = b"connection: close" in head.lower()
        self.asked_to_go += close
        return not close


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def serving(folder: Path, **settings: str) -> AsyncIterator[Gateway]:
    upstream = await asyncio.start_server(echo, "127.0.0.1", 0)
    gateway = Gateway(folder, upstream.sockets[0].getsockname()[1])
    gateway.environment |= settings
    await gateway.start()
    try:
        await until(lambda: _answers(gateway))
        yield gateway
    finally:
        if gateway.process.returncode is None:
            gateway.process.send_signal(signal.SIGINT)
            await gateway.process.wait()
        upstream.close()


async def _answers(gateway: Gateway) -> bool:
    assert gateway.process.returncode is None, gateway.log.read_text()
    return await gateway.status("/a") == 200


async def test_a_hup_under_load_swaps_the_workers_and_fails_no_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        old = gateway.workers()
        load = Load(gateway.port)
        await until(lambda: load.served > 50)
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: not old & gateway.workers())
        served = load.served
        await until(lambda: load.served > served + 50)
        await load.stop()
        assert load.failed == []
        assert load.asked_to_go


async def test_a_stop_under_load_turns_not_ready_finishes_and_exits_in_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        load = Load(gateway.port)
        await until(lambda: load.served > 50)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.4)
        assert "draining" in await gateway.internal("/readyz")
        assert await gateway.process.wait() == 0
        assert time.monotonic() - began < 10
        await load.stop()
        assert load.failed == []
        assert load.asked_to_go


async def test_changed_routes_are_taken_into_use_under_load_and_bad_ones_are_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        worker = gateway.workers()
        load = Load(gateway.port)
        gateway.write_routes("/a", "/b")

        async def is_served() -> bool:
            return await gateway.status("/b") == 200

        await until(is_served)
        gateway.routes.write_text("[[routes]]\nname = 7")
        await until(lambda: gateway.logged("cannot be used, the old ones stay"))
        assert gateway.logged("echo.toml:2: name")
        assert await gateway.metric("gateway_routes_refused") == 1
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: gateway.logged("no reload, the old workers stay"))
        assert await gateway.status("/b") == 200
        assert gateway.workers() == worker
        gateway.write_routes("/a")

        async def is_gone() -> bool:
            return await gateway.status("/b") == 404

        await until(is_gone)
        await load.stop()
        assert load.failed == []
        assert await gateway.metric("gateway_routes_refused") == 0


async def test_counts_of_all_workers_add_up_and_outlive_a_worker(tmp_path: Path) -> None:
    async with serving(tmp_path, WORKERS="2") as gateway:
        await until(lambda: len(gateway.workers()) == 2)

        async def counted() -> bool:
            return (
                await gateway.metric("gateway_request_duration_seconds_count") == 41
            )  # with the first one of serving()

        for _ in range(40):
            assert await gateway.status("/a") == 200
        await until(counted)
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: not old & gateway.workers())
        await until(counted)
        assert await gateway.metric("gateway_connections") == 0


async def test_a_table_that_cannot_be_used_at_start_is_said_in_one_line(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 1)
    gateway.routes.write_text("[[routes]]")
    await gateway.start()
    async with asyncio.timeout(DEADLINE):
        assert await gateway.process.wait() != 0
    said = gateway.log.read_text()
    assert "the gateway cannot start" in said
    assert "echo.toml:1: name: Field required" in said
    assert "Traceback" not in said
