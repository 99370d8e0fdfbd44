"""`python -m benchmarks auth`: signing, refreshing and signing in, each against the bare act that bounds it."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.request import urlopen

import httpx
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from matplotlib import pyplot
from redis.asyncio import Redis

from auth_service.keys.models import Policy
from auth_service.keys.sealing import Sealer
from auth_service.keys.service import KeyRing
from auth_service.sessions.models import Lifetimes
from auth_service.sessions.refresh_tokens import RefreshTokens
from auth_service.sessions.service import Sessions
from auth_service.store import Store, connect
from auth_service.tokens.access import AccessTokens
from auth_service.users.models import User
from service_kit.testing import free_port, redis_server

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "latest.json"
PEOPLE = 16
PASSWORD = "a long enough passphrase"
FLOORS = {"sign-in over argon2id's bound": 0.75, "loop lag p99 while signing in, ms": 10}


class Refused(Exception):
    """503: more at once than the system takes on."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=["auth"], default="auth", help="the only one here")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; at least three count")
    parser.add_argument("--seconds", type=float, default=4, help="how long each round of each row takes")
    options = parser.parse_args()
    results = asyncio.run(measure(options.rounds, options.seconds))
    for name, value in results["figures"].items():
        floor = f"   (floor {FLOORS[name]})" if name in FLOORS else ""
        print(f"  {name:42}{value:12,.2f}{floor}")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    plot(results["figures"])
    print(f"\nwritten: {RESULTS} and {RESULTS.with_suffix('.png').name}")
    return 0


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    readings: dict[str, list[float]] = {}

    def read(name: str, value: float) -> None:
        readings.setdefault(name, []).append(value)

    with redis_server(appendonly=True) as server, system() as urls:
        store = Store(connect(server.url, "", None, timeout=2))
        keys = KeyRing(store, Sealer([b"k" * 32]), Policy(300, 300, 30, 30 * 86400), 360_000)
        await keys.load()
        sessions = Sessions(store, RefreshTokens([b"r" * 32]), Lifetimes(3600, 3600, 50), 360_000)
        session, first = await sessions.start(
            subject="u", client_id="first-party", scope="*", cv=1, now=int(time.time()), device="", address=""
        )
        access, user = AccessTokens(keys, "http://localhost:8080", 300), User("u", "active", (), 1, 1)
        async with httpx.AsyncClient(base_url=urls["gateway"], timeout=30, trust_env=False) as http:
            await register(http)
            tokens = [await sign_in(http, number) for number in range(PEOPLE)]
            for _ in range(rounds):
                read("tokens signed/s", rate_of(lambda: access.for_person(session, user, "*"), seconds))
                read("bare signatures/s", bare_signing(seconds))
                first, turns = await rotate_in_turn(sessions, first, seconds)
                read("rotations/s, one after the other", turns)
                read("bare script calls/s", await bare_script(server.url, seconds))
                read(
                    "refreshes/s through the gateway",
                    await at_once(lambda each: refresh(http, tokens, each), seconds),
                )
                lag = asyncio.create_task(probe(urls["users"], seconds))
                read(
                    "sign-ins/s through the gateway", await at_once(lambda each: sign_in(http, each), seconds)
                )
                read("loop lag p99 while signing in, ms", await lag)
                read("argon2id's bound, hashes/s", bare_hashing(seconds))
        await store.close()
    figures = {name: median(values) for name, values in readings.items()}
    figures["signing over bare signing"] = figures["tokens signed/s"] / figures["bare signatures/s"]
    figures["rotation over a bare script call"] = (
        figures["rotations/s, one after the other"] / figures["bare script calls/s"]
    )
    figures["sign-in over argon2id's bound"] = (
        figures["sign-ins/s through the gateway"] / figures["argon2id's bound, hashes/s"]
    )
    return {
        "figures": {name: round(value, 3) for name, value in figures.items()},
        "rounds": readings,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextmanager
def system() -> Iterator[dict[str, str]]:
    """The embedded system in a folder of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="auth-bench-") as folder:
        environment = {**os.environ, "PORT": str(port), "VAR": folder, "TRUSTED_PROXIES": "127.0.0.0/8"}
        command = [sys.executable, str(ROOT / "deploy" / "embedded" / "run.py")]
        with Path(folder, "bench.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, process)
            told = subprocess.check_output(
                [*command, "exec", "user-service", "--", "printenv", "INTERNAL_PORT"],
                env=environment,
                text=True,
            )
            yield {"gateway": url, "users": f"http://127.0.0.1:{told.split()[-1]}"}
        finally:
            process.terminate()
            process.wait(40)


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/.well-known/jwks.json", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the embedded system did not start")


def rate_of(act: Callable[[], object], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        act()
        count += 1
    return count / passed


def bare_signing(seconds: float) -> float:
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ECAlgorithm(ECAlgorithm.SHA256)
    return rate_of(lambda: algorithm.sign(b"x" * 500, key), seconds)


async def rotate_in_turn(sessions: Sessions, token: str, seconds: float) -> tuple[str, float]:
    """The newest token, and how many times a second it was proved, read and rotated."""
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        _, token = await sessions.rotate(await sessions.find(token), 1)
        count += 1
    return token, count / passed


async def bare_script(url: str, seconds: float) -> float:
    """One script that writes one field: a round trip and one durable write, as a rotation needs."""
    async with Redis.from_url(url) as redis:
        digest = await redis.script_load("return redis.call('HSET', 'auth:bench', 'made', ARGV[1])")
        call: Any = redis.execute_command  # its types do not know it
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            await call("EVALSHA", digest, 0, str(count))
            count += 1
    return count / passed


def bare_hashing(seconds: float) -> float:
    """argon2id at user-service's cost on every core at once."""
    hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    known, cores = hasher.hash(PASSWORD), os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(lambda _: rate_of(lambda: hasher.verify(known, PASSWORD), seconds), range(cores)))


async def at_once(act: Callable[[int], Awaitable[object]], seconds: float, width: int = 8) -> float:
    """How many a second `width` callers get done, each with people of its own."""
    began = time.perf_counter()

    async def caller(number: int) -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            try:
                await act(number + width * (count % (PEOPLE // width)))
            except Refused:
                await asyncio.sleep(0.1)  # the queue is full; only what was done counts
            else:
                count += 1
        return count

    done = sum(await asyncio.gather(*map(caller, range(width))))
    return done / (time.perf_counter() - began)


async def probe(url: str, seconds: float) -> float:
    """p99 of the hashing service's /healthz in milliseconds, asked a hundred times a second."""
    waits, began = [], time.perf_counter()
    async with httpx.AsyncClient(trust_env=False) as http:
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            await http.get(f"{url}/healthz")
            waits.append(1000 * (time.perf_counter() - asked))
            await asyncio.sleep(0.01)
    return quantiles(waits, n=100)[98]


def from_somewhere() -> dict[str, str]:
    """Another client address each time, so that no limit on one address is what is measured."""
    return {"x-forwarded-for": f"198.18.{os.urandom(1)[0]}.{os.urandom(1)[0]}"}


def email(number: int) -> str:
    return f"person-{number}@example.com"


async def register(http: httpx.AsyncClient) -> None:
    for number in range(PEOPLE):
        body = {"email": email(number), "name": "Bench", "password": PASSWORD}
        answer = await http.post("/v1/users", json=body, headers=from_somewhere())
        assert answer.status_code == 201, answer.text


async def sign_in(http: httpx.AsyncClient, number: int) -> str:
    return await token(http, grant_type="password", username=email(number), password=PASSWORD)


async def refresh(http: httpx.AsyncClient, tokens: list[str], number: int) -> None:
    tokens[number] = await token(http, grant_type="refresh_token", refresh_token=tokens[number])


async def token(http: httpx.AsyncClient, **form: str) -> str:
    answer = await http.post("/auth/token", data=form, headers=from_somewhere())
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Refused
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["refresh_token"])


def plot(figures: dict[str, float]) -> None:
    rates = {name: value for name, value in figures.items() if "/s" in name}
    figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    bars = axes.barh(list(rates), list(rates.values()), color="#1b6ca8")
    axes.bar_label(bars, [f"{value:,.0f}" for value in rates.values()], padding=6)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_title("auth-service, each act beside the bare one that bounds it", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS.with_suffix(".png"), dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
