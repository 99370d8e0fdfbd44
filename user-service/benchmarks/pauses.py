"""Many calls that each wait a second for another server: a `def` endpoint on threads, and an `async def` one.

One FastAPI app under one uvicorn worker; either endpoint calls with what the standard library has for it. `def` runs
in FastAPI's thread pool, at its default of 40 threads and with as many threads as calls: all that differs is who waits.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import uvloop

from service_kit.testing import free_port

WAIT_SECONDS: Final = 1.0
CALLS: Final = (100, 2_000)
ROWS: Final = {  # name: path, and the most threads (0: FastAPI's default)
    "def, 40 threads (the default)": ("/threads", 0),
    "def, a thread for each call": ("/threads", 2_000),
    "async def": ("/async", 0),
}
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone"
)

ENDPOINTS: Final = """
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import urlopen

import anyio.to_thread
from fastapi import FastAPI

PORT, THREADS = int(os.environ["SLOW_PORT"]), int(os.environ["THREADS"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    if THREADS:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/threads")
def threads() -> str:
    with urlopen(f"http://127.0.0.1:{PORT}/") as answer:
        return answer.read().decode()


@app.get("/async")
async def asynchronous() -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: slow\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\\r\\n")[2].decode()
"""


def measure(rounds: int) -> dict[str, Any]:
    _raise_file_limit()
    taken: dict[str, dict[int, list[float]]] = {name: {calls: [] for calls in CALLS} for name in ROWS}
    with tempfile.TemporaryDirectory(prefix="user-service-bench-") as folder:
        module = Path(folder) / "endpoints.py"
        module.write_text(ENDPOINTS)
        with _running([sys.executable, "-m", "benchmarks.pauses"], "PORT") as slow:
            for number in range(rounds):
                for name, (path, threads) in ROWS.items():
                    for calls in CALLS:
                        seconds = _one_run(folder, slow, path, threads, calls)
                        taken[name][calls].append(seconds)
                        print(f"round {number + 1} of {rounds}: {calls} calls, {name}: {seconds:.2f} s")
    return {
        "calls": list(CALLS),
        "wait_seconds": WAIT_SECONDS,
        "rounds": taken,
        "seconds": {
            name: {calls: median(runs) for calls, runs in row.items()} for name, row in taken.items()
        },
    }


def _one_run(folder: str, slow: int, path: str, threads: int, calls: int) -> float:
    """A server started for this run alone: no thread and no connection is there yet."""
    command = [sys.executable, "-m", "uvicorn", "endpoints:app", "--app-dir", folder, "--no-access-log"]
    settings = {"SLOW_PORT": str(slow), "THREADS": str(threads)}
    command += ["--log-level=warning", "--backlog=4096", "--port"]
    with _running(command, None, **settings) as port:
        return uvloop.run(_call(port, path, calls))


async def _call(port: int, path: str, calls: int) -> float:
    """All at once, connecting included; seconds until the last has its answer."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        response = await reader.read()
        writer.close()
        if not response.startswith(b"HTTP/1.1 200") or b"done" not in response:
            raise RuntimeError(f"{path}: {response[:200]!r}")

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(calls)))
    return time.perf_counter() - began


@contextmanager
def _running(command: list[str], port_variable: str | None, **settings: str) -> Iterator[int]:
    """A server of this run; the port it listens on."""
    port = free_port()
    environment = os.environ | settings
    if port_variable:
        environment[port_variable] = str(port)
    else:
        command = [*command, str(port)]
    process = subprocess.Popen(command, env=environment)
    try:
        uvloop.run(_listening(port, process))
        yield port
    finally:
        process.terminate()
        process.wait()


async def _listening(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(20):
        while process.poll() is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"{process.args!r} ended")


def _raise_file_limit() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _SlowServer(asyncio.Protocol):
    """Answers each request after WAIT_SECONDS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            asyncio.get_running_loop().call_later(WAIT_SECONDS, self._answer)

    def _answer(self) -> None:
        self._transport.write(ANSWER)
        self._transport.close()


async def _be_slow(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_SlowServer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(_be_slow(int(os.environ["PORT"])))
