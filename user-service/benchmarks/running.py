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
from urllib.request import urlopen

import httpx
from sqlalchemy.engine import make_url

from benchmarks import changes
from service_kit.testing import free_port

ROOT: Final = Path(__file__).parents[2]
RUN: Final = (sys.executable, str(ROOT / "deploy" / "embedded" / "run.py"))
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


async def measure(server_url: str, rounds: int) -> dict[str, Any]:
    with _as_shipped() as python, _running(server_url) as system:
        async with httpx.AsyncClient(base_url=system.url, timeout=30, event_hooks=SOMEWHERE) as client:
            emails = [f"{secrets.token_hex(8)}@example.com" for _ in range(CALLERS)]
            for email in emails:
                person = {"email": email, "name": "Bench", "password": PASSWORD}
                (await client.post("/v1/users", json=person)).raise_for_status()
            admin = emails[0]
            _command_in(system, "python", "-m", "user_service.cli", "admin", admin)
            lags = [await _lag(client, system.probes, emails) for _ in range(rounds)]
            form = {"grant_type": "password", "username": admin, "password": PASSWORD}
            told = (await client.post("/auth/token", data=form)).raise_for_status().json()
            bearer = {"Authorization": f"Bearer {told['access_token']}"}
            alone = [await _started(python, system.environment, bearer) for _ in range(STARTS)]
        seen = await changes.measure(
            system.url, admin, PASSWORD, CHANGES, verifiers=[system.users], hooks=SOMEWHERE
        )
    return {
        "loop_lag_p99_ms": [1000 * lag for lag in lags],
        "seconds_to_ready": [seconds for seconds, _ in alone],
        "resident_mb": [resident / 1e6 for _, resident in alone],
        "change_seen_ms": [1000 * one for one in seen],
    }


async def _from_somewhere(request: httpx.Request) -> None:
    # No limit on one address is what is measured.
    request.headers["X-Forwarded-For"] = ".".join(map(str, (198, 18, *os.urandom(2))))


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
        for place in ("mysql/users_password", "user-service/database_password"):
            file = Path(folder, "secrets", place)
            file.parent.mkdir(parents=True)
            file.write_text(make_url(database).password or "")
        log = Path(folder, "bench.log")
        process = _start(RUN, environment, log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/.well-known/jwks.json", process, log)
            told = json.loads(Path(folder, "environments.json").read_text())["user-service"]
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


async def _lag(client: httpx.AsyncClient, port: int, emails: list[str]) -> float:
    """p99 of how long the loop kept a probe waiting while every core hashed for sign-ins."""
    command = [sys.executable, "-m", "benchmarks.probe", str(port), str(HASHING_SECONDS)]
    probing = asyncio.to_thread(subprocess.check_output, command, timeout=60)
    until = time.perf_counter() + HASHING_SECONDS + 1

    async def sign_in(email: str) -> None:
        form = {"grant_type": "password", "username": email, "password": PASSWORD}
        while time.perf_counter() < until:
            (await client.post("/auth/token", data=form)).raise_for_status()

    signing_in = [asyncio.create_task(sign_in(email)) for email in emails]
    waits: list[float] = json.loads(await probing)
    await asyncio.gather(*signing_in)
    return quantiles(waits, n=100)[98]


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
        "resident_mb": median(measured["resident_mb"]),
        "seconds_to_ready": median(measured["seconds_to_ready"]),
        "change_seen_p99_ms": seen[round((len(seen) - 1) * 0.99)],
        "change_seen_max_ms": seen[-1],
    }
