"""What only a running service shows: the embedded system on the benchmark's MySQL, people and all."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import httpx
from sqlalchemy.engine import make_url

from benchmarks import changes
from service_kit.testing import free_port

ROOT: Final = Path(__file__).parents[2]
RUN: Final = (sys.executable, str(ROOT / "deploy" / "embedded" / "run.py"))
PROBE: Final = (sys.executable, "-m", "benchmarks.probe")
SERVE: Final = "user_service.main:serve()"
PASSWORD: Final = "a long enough passphrase"
START_SECONDS: Final = 180.0
CALLERS: Final = 8  # at once: enough to keep every core hashing, and no queue to speak of
HASHING_SECONDS: Final = 5.0
STARTS: Final = 3
CHANGES: Final = 102  # of each kind a third


@dataclass(frozen=True, slots=True)
class System:
    url: str  # the gateway's
    users: str  # user-service's own, public
    probes: int  # its internal port
    environment: dict[str, str]  # what its process is told


@dataclass(frozen=True, slots=True)
class Reading:
    """While every core hashed: p99 of the seconds a probe waited, for us and for a server that does nothing."""

    lag: float
    idle_lag: float
    sign_ins: float  # a second


async def measure(server_url: str, rounds: int) -> dict[str, Any]:
    with _as_shipped() as python, _running(server_url) as system:
        async with httpx.AsyncClient(base_url=system.url, timeout=30, event_hooks=SOMEWHERE) as client:
            emails = [f"{secrets.token_hex(8)}@example.com" for _ in range(CALLERS)]
            for email in emails:
                person = {"email": email, "name": "Bench", "password": PASSWORD}
                (await client.post("/v1/users", json=person)).raise_for_status()
            admin = emails[0]
            _command_in(system, "python", "-m", "user_service.cli", "admin", admin)
            with _idle_server() as idle:
                readings = [await _while_hashing(system, idle, emails) for _ in range(rounds)]
            form = {"grant_type": "password", "username": admin, "password": PASSWORD}
            told = (await client.post("/auth/token", data=form)).raise_for_status().json()
            bearer = {"Authorization": f"Bearer {told['access_token']}"}
            alone = [await _started(python, system.environment, bearer) for _ in range(STARTS)]
        seen = await changes.measure(
            system.url, admin, PASSWORD, CHANGES, verifiers=[system.users], hooks=SOMEWHERE
        )
    return {
        "loop_lag_p99_ms": [1000 * reading.lag for reading in readings],
        "idle_lag_p99_ms": [1000 * reading.idle_lag for reading in readings],
        "sign_ins_per_second": [reading.sign_ins for reading in readings],
        "seconds_to_ready": [seconds for seconds, _ in alone],
        "resident_mb": [resident / 1e6 for _, resident in alone],
        "change_seen_ms": [1000 * one for one in seen],
    }


def _somewhere() -> str:
    """Each time another address: no limit on one is what is measured."""
    return ".".join(map(str, (198, 18, *os.urandom(2))))


async def _from_somewhere(request: httpx.Request) -> None:
    request.headers["X-Forwarded-For"] = _somewhere()


SOMEWHERE: Final[dict[str, list[Any]]] = {"request": [_from_somewhere]}


@contextmanager
def _running(database: str) -> Iterator[System]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="user-service-bench-") as folder:
        environment = os.environ | {
            "PORT": str(port),
            "VAR": folder,
            "DATABASE_URL": database,
            "TRUSTED_PROXIES": "127.0.0.0/8",
        }
        # Secrets come from files alone; the others are made at the start.
        for place in ("user-service-database/users_password", "user-service/database_password"):
            file = Path(folder, "secrets", place)
            file.parent.mkdir(parents=True)
            file.write_text(make_url(database).password or "")
        log = Path(folder, "bench.log")
        process = _start(RUN, environment, log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/.well-known/jwks.json", process, log)
            told = json.loads(Path(folder, "environments.json").read_text())["user-service"]
            _wait_for(
                f"http://127.0.0.1:{told['INTERNAL_PORT']}/readyz", process, log
            )  # its schema comes first
            yield System(
                f"http://127.0.0.1:{port}",
                f"http://127.0.0.1:{told['PUBLIC_PORT']}",
                int(told["INTERNAL_PORT"]),
                environment | told,
            )
        finally:
            process.terminate()
            process.wait(40)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> float:
    """Ask until it answers 200; how long that took."""
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < START_SECONDS:
        try:
            with urlopen(url, timeout=2):
                return time.perf_counter() - began
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"it did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _command_in(system: System, *command: str) -> None:
    subprocess.run(
        [*RUN, "exec", "user-service", "--", *command], env=system.environment, check=True, cwd=ROOT
    )


@contextmanager
def _idle_server() -> Iterator[int]:
    """A server that does nothing but answer; its port."""
    port = free_port()
    process = subprocess.Popen([*PROBE, str(port)])
    try:
        _wait_for(f"http://127.0.0.1:{port}/", process, Path(os.devnull))
        yield port
    finally:
        process.terminate()
        process.wait()


async def _while_hashing(system: System, idle: int, emails: list[str]) -> Reading:
    seconds = HASHING_SECONDS + 1
    signing_in = [asyncio.create_task(_sign_in_for(system.url, email, seconds)) for email in emails]
    lag, idle_lag = await asyncio.gather(_lag(system.probes), _lag(idle))
    sign_ins = sum(await asyncio.gather(*signing_in)) / seconds
    if sign_ins < 1:
        raise RuntimeError("nobody could sign in: nothing was hashed")
    return Reading(lag, idle_lag, sign_ins)


async def _lag(port: int) -> float:
    """p99 of how long a probe waited for what costs the server nothing."""
    command = [*PROBE, str(port), str(HASHING_SECONDS)]
    waits: list[float] = json.loads(await asyncio.to_thread(subprocess.check_output, command, timeout=60))
    return quantiles(waits, n=100)[98]


async def _sign_in_for(url: str, email: str, seconds: float) -> int:
    """Over one connection, with next to no work of ours: what computes shall be the system."""
    form = urlencode({"grant_type": "password", "username": email, "password": PASSWORD})
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        head = (
            "POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\nX-Forwarded-For: {_somewhere()}\r\n\r\n"
        )
        writer.write(f"{head}{form}".encode())
        status, _, fields = (await reader.readuntil(b"\r\n\r\n")).lower().partition(b"\r\n")
        await reader.readexactly(int(fields.partition(b"content-length:")[2].split(b"\r\n")[0]))
        if status.split()[1] == b"200":
            done += 1
        else:
            await asyncio.sleep(0.1)  # it has too much to do
    writer.close()
    return done


@contextmanager
def _as_shipped() -> Iterator[str]:
    """A Python with what the image has, compiled, and nothing that only tests and benchmarks need."""
    with tempfile.TemporaryDirectory(prefix="user-service-bench-") as folder:
        sync = (os.environ.get("UV", "uv"), "sync", "--quiet", "--locked", "--no-default-groups")
        subprocess.run(
            [*sync, "--no-editable", "--compile-bytecode"],
            env=os.environ | {"UV_PROJECT_ENVIRONMENT": folder},
            cwd=ROOT / "user-service",
            check=True,
        )
        yield f"{folder}/bin/python"


async def _started(python: str, environment: dict[str, str], bearer: dict[str, str]) -> tuple[float, int]:
    """A second service beside the first: seconds from its command to the first 200 of /readyz, and the bytes that its
    worker holds after some work."""
    with tempfile.TemporaryDirectory(prefix="user-service-bench-") as folder:
        ports = {"PUBLIC_PORT": str(free_port()), "INTERNAL_PORT": str(free_port()), "METRICS_DIR": folder}
        log = Path(folder, "log")
        process = _start(
            [python, "-m", "gunicorn", "-c", "python:user_service.gunicorn_conf", SERVE],
            environment | ports,
            log,
        )
        try:
            ready = f"http://127.0.0.1:{ports['INTERNAL_PORT']}/readyz"
            seconds = await asyncio.to_thread(_wait_for, ready, process, log)
            url = f"http://127.0.0.1:{ports['PUBLIC_PORT']}"
            async with httpx.AsyncClient(base_url=url, headers=bearer, timeout=30) as client:
                await _work(client)
            (worker,) = (pid for pid, parent in _processes() if parent == process.pid)
            return seconds, _resident(worker)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 40)


async def _work(client: httpx.AsyncClient) -> None:
    for _ in range(50):
        (await client.get("/v1/users/me")).raise_for_status()
        (await client.get("/v1/users?limit=50")).raise_for_status()
    wrong = {"current_password": "not the password", "new_password": PASSWORD}
    await asyncio.gather(*(client.post("/v1/users/me/password", json=wrong) for _ in range(CALLERS)))
    await asyncio.sleep(3)  # what hashing took goes back after two seconds of calm


def _start(command: Sequence[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=ROOT)


def _processes() -> Iterator[tuple[int, int]]:
    """Every process and its parent."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def summary(measured: dict[str, Any]) -> dict[str, float]:
    """The figures that promises are held against."""
    seen = sorted(measured["change_seen_ms"])
    return {
        "loop_lag_p99_ms": median(measured["loop_lag_p99_ms"]),
        "idle_lag_p99_ms": median(measured["idle_lag_p99_ms"]),
        "resident_mb": median(measured["resident_mb"]),
        "seconds_to_ready": median(measured["seconds_to_ready"]),
        "change_seen_p99_ms": seen[round((len(seen) - 1) * 0.99)],
        "change_seen_max_ms": seen[-1],
    }
