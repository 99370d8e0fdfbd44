"""`python -m benchmarks auth`: signing, refreshing and signing in, each against the bare act that bounds it."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from redis.asyncio import Redis

from auth_service.keys.models import Policy
from auth_service.keys.service import KeyRing
from auth_service.records import Records
from auth_service.sessions.models import Lifetimes, Session
from auth_service.sessions.refresh_tokens import RefreshTokens
from auth_service.sessions.service import Sessions, VerifiedRefreshToken
from auth_service.store import Store, connect
from auth_service.tokens.access import AccessTokens
from auth_service.users.models import User
from benchmarks import plot, system
from service_kit.testing import redis_server

RESULTS = Path(__file__).parent / "results" / "latest.json"
# So many that none has fifty sessions before the end: from then on each sign-in would end the oldest one as well.
PEOPLE = [f"person-{number}@example.com" for number in range(24 * system.CALLERS)]


@dataclass(frozen=True)
class Row:
    """A figure: one reading, or one over another, as the median of all rounds."""

    name: str
    reading: str
    over: str = ""
    floor: float | None = None
    aim: float | None = None
    at_most: bool = False

    def verdict(self, value: float) -> str:
        """What was reached; nothing where nothing was promised."""
        if self.floor is None or self.aim is None:
            return ""
        sign = -1 if self.at_most else 1
        return (
            "aim"
            if sign * value >= sign * self.aim
            else "floor"
            if sign * value >= sign * self.floor
            else "below"
        )

    def of(self, rounds: list[dict[str, float]]) -> float:
        return median(each[self.reading] / (each[self.over] if self.over else 1) for each in rounds)


ROWS = (
    Row("sign-in over argon2id's bound of all cores", "sign-ins/s", "hashes/s", 0.75, 0.85),
    Row("user-service's loop lag p99 meanwhile, ms", "loop lag, ms", "", 10, 4, at_most=True),
    Row("the same of a server that does nothing", "idle lag, ms", at_most=True),
    Row("a sign-in's CPU in gateway, ms", "gateway, CPU ms"),
    Row("in auth-service, ms", "auth_service, CPU ms"),
    Row("in user-service, the hash included, ms", "user_service, CPU ms"),
    Row("a signed token over a bare signature, CPU", "tokens signed/s", "bare signatures/s"),
    Row("a rotation over a bare script call", "rotations/s", "bare script calls/s"),
    Row("proving, reading and rotating over the same", "found and rotated/s", "bare script calls/s"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=["auth"], default="auth", help="the only one here")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; at least three count")
    parser.add_argument("--seconds", type=float, default=8, help="of signing in a round; the rest takes less")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = asyncio.run(measure(options.rounds, options.seconds))
    rates = {name: median(each[name] for each in rounds) for name in rounds[0] if name.endswith("/s")}
    print(f"\n{'a second, medians of ' + str(len(rounds)) + ' rounds':48}")
    for name, rate in rates.items():
        print(f"  {name:46}{rate:10,.1f}")
    print(f"\n{'':48}{'measured':>10}{'floor':>8}{'aim':>8}  reached")
    for row in ROWS:
        wanted = "".join(f"{'-' if each is None else each:>8}" for each in (row.floor, row.aim))
        value = row.of(rounds)
        print(f"  {row.name:46}{value:10.2f}{wanted}  {row.verdict(value)}".rstrip())
    results = {
        "figures": {row.name: round(row.of(rounds), 3) for row in ROWS},
        "rounds": rounds,
        "cores": os.cpu_count(),
        "load_before": load,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    plot.draw()
    print(f"\nwritten: {RESULTS} and {RESULTS.with_suffix('.png').name}")
    return 0


async def measure(rounds: int, seconds: float) -> list[dict[str, float]]:
    readings: list[dict[str, float]] = []
    with redis_server(appendonly=True) as server, system.running() as gatehouse, system.idle_server() as idle:
        alone = await Alone.made(server.url)
        async with system.Caller.on(gatehouse.gateway) as caller:
            for email in PEOPLE:
                await caller.register(email)
        for number in range(rounds):
            tokens = await system.refresh_tokens(gatehouse.gateway, PEOPLE)
            short = seconds / 4
            reading = {
                "tokens signed/s": cpu_rate_of(alone.sign, short),
                "bare signatures/s": cpu_rate_of(bare_signature(), short),
                "rotations/s": await alone.rotated(short),
                "found and rotated/s": await alone.found_and_rotated(short),
                "bare script calls/s": await bare_script(server.url, short),
                "refreshes/s": await system.refreshes(gatehouse.gateway, tokens, short),
            }
            hashes = await asyncio.to_thread(bare_hashing, short)
            with system.probing(gatehouse.users, seconds) as users, system.probing(idle, seconds) as nobody:
                before, began = gatehouse.cpu_ms(), time.perf_counter()
                reading["sign-ins/s"] = await system.sign_ins(gatehouse.gateway, PEOPLE, seconds)
                done = reading["sign-ins/s"] * (time.perf_counter() - began)
                for service, used in gatehouse.cpu_ms().items():
                    reading[f"{service}, CPU ms"] = (used - before[service]) / done
                reading["loop lag, ms"] = await asyncio.to_thread(system.lag, users)
                reading["idle lag, ms"] = await asyncio.to_thread(system.lag, nobody)
            # Before and after, since it is what the sign-ins between are held against.
            reading["hashes/s"] = (hashes + await asyncio.to_thread(bare_hashing, short)) / 2
            readings.append(reading)
            entry = ", ".join(f"{name} {value:,.1f}" for name, value in reading.items())
            print(f"round {number + 1} of {rounds}: {entry}", flush=True)
        await alone.close()
    return readings


class Alone:
    """auth-service's own parts on a Redis of their own, without HTTP."""

    _session: Session

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self._store = store
        self._refresh_tokens = RefreshTokens([b"r" * 32])
        self._sessions = Sessions(
            store,
            Records([b"k" * 32], "session"),
            self._refresh_tokens,
            Lifetimes(86_400, 86_400, 50),
            360_000,
        )
        self._access = AccessTokens(keys, "http://localhost:8080", 300)
        self._user = User("019ab1d0-7c1e-7f30-9a55-2f6f1c0de001", "active", (), 1, 1)
        self._token = ""

    @classmethod
    async def made(cls, url: str) -> "Alone":
        store = Store(connect(url, "", None, timeout=2))
        keys = KeyRing(store, Records([b"k" * 32], "key ring"), Policy(300, 300, 30, 30 * 86400), 360_000)
        await keys.load()
        alone = cls(store, keys)
        alone._session, alone._token = await alone._sessions.start(
            subject=alone._user.id,
            client_id="first-party",
            scope="*",
            cv=1,
            now=int(time.time()),
            device="",
            address="",
        )
        return alone

    def sign(self) -> str:
        return self._access.for_person(self._session, self._user, "*")

    async def rotated(self, seconds: float) -> float:
        """One after the other: the atomic act alone."""
        presented = await self._sessions.find(self._token)

        async def one() -> None:
            nonlocal presented
            session, self._token = await self._sessions.rotate(presented, 1)
            presented = VerifiedRefreshToken(self._refresh_tokens.read(self._token), session)

        return await rate_of(one, seconds)

    async def found_and_rotated(self, seconds: float) -> float:
        async def one() -> None:
            _, self._token = await self._sessions.rotate(await self._sessions.find(self._token), 1)

        return await rate_of(one, seconds)

    async def close(self) -> None:
        await self._store.close()


async def rate_of(act: Callable[[], Any], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        await act()
        count += 1
    return count / passed


def cpu_rate_of(act: Callable[[], object], seconds: float) -> float:
    """How often a second of this process's own time: whoever else is on the machine takes no part in it."""
    count, began, began_cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        act()
        count += 1
    return count / (time.process_time() - began_cpu)


def bare_signature() -> Callable[[], object]:
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ECAlgorithm(ECAlgorithm.SHA256)
    return lambda: algorithm.sign(b"x" * 500, key)


async def bare_script(url: str, seconds: float) -> float:
    """One script that writes one field: a round trip and one durable write, as a rotation needs."""
    async with Redis.from_url(url) as redis:
        digest = await redis.script_load("return redis.call('HSET', 'auth:bench', 'made', ARGV[1])")
        call: Any = redis.execute_command  # its types do not know it
        return await rate_of(lambda: call("EVALSHA", digest, 0, "1"), seconds)


def bare_hashing(seconds: float) -> float:
    """argon2id at user-service's cost on every core at once."""
    hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    known, cores = hasher.hash(system.PASSWORD), len(os.sched_getaffinity(0))

    def one(_: int) -> float:
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            hasher.verify(known, system.PASSWORD)
            count += 1
        return count / passed

    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(one, range(cores)))


if __name__ == "__main__":
    sys.exit(main())
