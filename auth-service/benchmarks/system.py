"""The embedded system as its callers meet it: started for one run, loaded over raw HTTP, its event loop probed."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from service_kit.testing import free_port

ROOT = Path(__file__).parents[2]
PASSWORD = "a long enough passphrase"
CALLERS = 8  # at once: enough to keep every core hashing, and no queue to speak of
PROBES_PER_SECOND = 50


@dataclass(frozen=True)
class System:
    gateway: int
    users: int  # user-service's internal port
    process: int  # the supervisor's

    def cpu_ms(self) -> dict[str, float]:
        """What each service's processes, master and workers, have used so far, in user and system mode."""
        used: dict[str, float] = {}
        for process in _descendants(self.process):
            command = Path("/proc", process, "cmdline").read_text()
            if service := re.search(r"python:(\w+)\.gunicorn_conf", command):
                ticks = sum(map(int, _stat(process)[11:13]))
                used[service[1]] = used.get(service[1], 0) + 1000 * ticks / os.sysconf("SC_CLK_TCK")
        return used


def _descendants(ancestor: int) -> list[str]:
    """Of Linux, as its /proc tells; a process that ends meanwhile is none."""
    parents: dict[str, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[folder.name] = _stat(folder.name)[1]
    found = [str(ancestor)]
    for process in found:  # which grows
        found += [child for child, parent in parents.items() if parent == process]
    return found


def _stat(process: str) -> list[str]:
    """The fields behind the command's name (proc(5)): state, parent, …"""
    return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()


@contextmanager
def running() -> Iterator[System]:
    """In a folder of its own, with nothing changed but the ports and how fast one address may sign in."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="auth-bench-") as folder:
        environment = {**os.environ, "PORT": str(port), "VAR": folder, "TRUSTED_PROXIES": "127.0.0.0/8"}
        command = [sys.executable, str(ROOT / "deploy" / "embedded" / "run.py")]
        with Path(folder, "bench.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/.well-known/jwks.json", process)
            client_request = [*command, "exec", "user-service", "--", "printenv", "INTERNAL_PORT"]
            entry = subprocess.check_output(client_request, env=environment, text=True)
            internal = int(entry.split()[-1])
            _wait_for(f"http://127.0.0.1:{internal}/readyz", process)
            yield System(port, internal, process.pid)
        finally:
            process.terminate()
            process.wait(40)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the embedded system did not start")


class Caller:
    """One connection, one question at a time: next to what it asks for it costs nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def on(cls, port: int) -> "AsyncIterator[Caller]":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> tuple[int, bytes]:
        """Status and body. Each time from another address, so that no limit on one is what is measured."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {_somewhere()}\r\n"
        if body:
            head += f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields if field)
        return int(status.split()[1]), await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def token(self, **form: str) -> dict[str, Any] | None:
        """New tokens; None if the system has too much to do."""
        status, body = await self.ask(
            "POST", "/auth/token", urlencode(form).encode(), "application/x-www-form-urlencoded"
        )
        if status == 503:
            return None
        assert status == 200, body
        response: dict[str, Any] = json.loads(body)
        return response

    async def register(self, email: str) -> None:
        person = {"email": email, "name": "Bench", "password": PASSWORD}
        status, body = await self.ask("POST", "/v1/users", json.dumps(person).encode(), "application/json")
        assert status == 201, body


def _somewhere() -> str:
    return f"198.18.{os.urandom(1)[0]}.{os.urandom(1)[0]}"


async def refresh_tokens(port: int, people: Sequence[str]) -> dict[int, str]:
    """A new session for each caller."""
    tokens: dict[int, str] = {}
    async with Caller.on(port) as caller:
        for number in range(CALLERS):
            grant = await caller.token(grant_type="password", username=people[number], password=PASSWORD)
            assert grant is not None, "the system refuses a single sign-in"
            tokens[number] = grant["refresh_token"]
    return tokens


async def sign_ins(port: int, people: Sequence[str], seconds: float) -> float:
    """How many a second all callers get done, each with people of its own in turn."""
    turns = [cycle(people[number::CALLERS]) for number in range(CALLERS)]
    return await _by_everybody(
        port,
        seconds,
        lambda caller, number: caller.token(
            grant_type="password", username=next(turns[number]), password=PASSWORD
        ),
    )


async def refreshes(port: int, tokens: dict[int, str], seconds: float) -> float:
    async def renew(caller: Caller, number: int) -> dict[str, Any] | None:
        response = await caller.token(grant_type="refresh_token", refresh_token=tokens[number])
        if response is not None:
            tokens[number] = response["refresh_token"]
        return response

    return await _by_everybody(port, seconds, renew)


async def _by_everybody(port: int, seconds: float, act: Any) -> float:
    began = time.perf_counter()

    async def one(number: int) -> int:
        done = 0
        async with Caller.on(port) as caller:
            while time.perf_counter() - began < seconds:
                if await act(caller, number) is None:
                    await asyncio.sleep(0.1)  # only what was done counts
                else:
                    done += 1
        return done

    return sum(await asyncio.gather(*map(one, range(CALLERS)))) / (time.perf_counter() - began)


@contextmanager
def probing(port: int, seconds: float) -> "Iterator[subprocess.Popen[str]]":
    """A process that asks `port` for /healthz on a fixed schedule; `lag` reads what it found."""
    command = [sys.executable, "-m", "benchmarks.system", str(port), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it begins: what starting it takes of the machine is over
        yield process
    finally:
        process.terminate()
        process.wait(10)


def lag(process: "subprocess.Popen[str]") -> float:
    """p99 in milliseconds of how long the loop kept a request waiting that costs it nothing."""
    entry, _ = process.communicate(timeout=60)
    return float(entry)


async def _probe(port: int, seconds: float) -> float:
    """Counted from when a question was due, if the answer before came later: a loop at a standstill is not asked less."""
    waits: list[float] = []
    async with Caller.on(port) as caller:
        print("begun", flush=True)
        began = time.perf_counter()
        for number in range(int(seconds * PROBES_PER_SECOND)):
            client_request = began + number / PROBES_PER_SECOND
            if (early := client_request - time.perf_counter()) > 0:
                await asyncio.sleep(early)
                client_request = time.perf_counter()
            await caller.ask("GET", "/healthz")
            waits.append(1000 * (time.perf_counter() - client_request))
    return quantiles(waits, n=100)[98]


async def _idle(port: int) -> None:
    """A server that does nothing but answer: what the machine alone adds to a probe."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()


@contextmanager
def idle_server() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.system", str(port)])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                    break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    if sys.argv[2:]:
        print(asyncio.run(_probe(int(sys.argv[1]), float(sys.argv[2]))))
    else:
        asyncio.run(_idle(int(sys.argv[1])))
