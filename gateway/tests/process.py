"""A real gunicorn with the gateway in it, and what is measured of it from outside."""

import asyncio
import os
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from benchmarks.processes import Memory

from service_kit.testing import free_port

BLOCK = bytes(256 * 1024)
DEADLINE = 90.0  # a bound for busy machines; every wait ends as soon as what it waits for is there
ROUTE = '[[routes]]\nname = "{name}"\npath = "{path}"\nmethods = ["GET"]\naccess = "public"\n'


class Gateway:
    """The master process, and how to talk to it."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.port, self.internal_port, self.upstream_port = free_port(), free_port(), upstream_port
        self.routes = folder / "routes.d" / "echo" / "echo.toml"
        self.log = folder / "log"
        self.routes.parent.mkdir(parents=True)
        self.write_routes("/a")
        self.environment = os.environ | {
            # All the load comes from one address.
            "ADDRESS_RATE": "0",
            "ADDRESS_CONNECTIONS": "0",
            "ADDRESS_EXCHANGES": "0",
            "PUBLIC_PORT": str(self.port),
            "INTERNAL_PORT": str(self.internal_port),
            "ROUTES_DIR": str(folder / "routes.d"),
            "UPSTREAMS": f'{{"echo": "127.0.0.1:{upstream_port}"}}',
            "UPSTREAM_PROBE": "off",
            "PUBLIC_URL": "http://localhost:8080",
            "JWKS_URL": "http://127.0.0.1:1/",
            "REVOCATIONS_REDIS_URL": "redis://127.0.0.1:1/0",
            "METRICS_DIR": str(folder / "metrics"),
            "SECRETS_DIR": str(folder),
            "DRAIN_SECONDS": "0.5",
            "GRACEFUL_SECONDS": "10",
            "ROUTES_WATCH_SECONDS": "0.1",
        }
        self.responded = 0  # what status() got
        self.process: asyncio.subprocess.Process

    def write_routes(self, *paths: str) -> None:
        self.write_table("\n".join(ROUTE.format(name=path.strip("/"), path=path) for path in paths))

    def write_table(self, text: str) -> None:
        new = self.routes.with_suffix(".new")
        new.write_text(text)
        new.replace(self.routes)

    def publish(self, service: str, text: str, since: str = "") -> None:
        """As the tool does: the folder appears whole, under its name."""
        new = self.routes.parents[1] / f".{service}.new"
        new.mkdir()
        (new / "routes.toml").write_text(text)
        if since:
            (new / "published").write_text(f"{since}\n")
        new.rename(self.routes.parents[1] / service)

    def withdraw(self, service: str) -> None:
        shutil.rmtree(self.routes.parents[1] / service)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            await self.process.wait()

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

    def worker(self) -> int:
        """The one worker's process id."""
        (worker,) = self.workers()
        return int(worker)

    def memory(self) -> Memory:
        return Memory(self.worker())

    def cpu_seconds(self) -> float:
        """User and system time of the one worker so far."""
        return time.clock_gettime(~self.worker() << 3 | 2)  # clock_getcpuclockid(3)

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()

    async def status(self, path: str) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            try:
                status = (await client.get(f"http://127.0.0.1:{self.port}{path}")).status_code
            except httpx.TransportError:
                return 0
        self.responded += 1
        return status

    async def internal(self, path: str) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            return (await client.get(f"http://127.0.0.1:{self.internal_port}{path}")).text

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples; `name` may go on with its first labels."""
        lines = (await self.internal("/metrics")).splitlines()
        begins = (name,) if "{" in name else (f"{name} ", f"{name}{{")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(begins))


async def until(
    what: Callable[[], Awaitable[Any]] | Callable[[], Any],
    seconds: float = DEADLINE,
    said: str = "it did not come",
) -> None:
    """Waits for a condition, not for a time."""
    ends = time.monotonic() + seconds
    while True:
        found = what()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < ends, said
        await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    folder: Path,
    upstream: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    table: str = "",
    **settings: str,
) -> AsyncIterator[Gateway]:
    """A gateway that serves `/a`, or else the table of routes, from the upstream."""
    behind = await asyncio.start_server(upstream, "127.0.0.1", 0, backlog=4096)
    gateway = Gateway(folder, behind.sockets[0].getsockname()[1])
    gateway.environment |= settings
    if table:
        gateway.write_table(table)
    await gateway.start()
    try:
        await until(lambda: _answers(gateway))
        yield gateway
    finally:
        await gateway.stop()
        behind.close()


async def _answers(gateway: Gateway) -> bool:
    assert gateway.process.returncode is None, gateway.log.read_text()
    return await gateway.status("/a") == 200


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that answers everything with two bytes."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def connected(
    port: int, receives: int = 0, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client; with `receives` one whose kernel takes so little that the gateway has to hold what comes."""
    peer = socket.socket()
    try:
        peer.setblocking(False)
        peer.bind((source, 0))
        if receives:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
    except OSError:
        peer.close()
        raise
    reader, writer = await asyncio.open_connection(sock=peer, limit=4096 if receives else len(BLOCK))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as the kernel of a process that died does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
