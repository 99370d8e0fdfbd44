"""Revocations as auth-service writes them: how soon the gateway refuses, and what holding many costs."""

import http.client
import secrets
import time
from statistics import median

from redis import Redis

from benchmarks.load import PATH, Load, Spoilt
from benchmarks.processes import Memory
from benchmarks.targets import Target
from benchmarks.tokens import LIFETIME, TokenMaker

PATIENCE = 10.0  # seconds until a revocation that is not seen counts as never seen
# Until the last of very many is seen: a busy machine takes its time, and that is not what is measured.
PATIENCE_FOR_MANY = 120.0
RATE = 1_000  # requests a second while p99 is read


class Stream:
    """The contract's stream and epoch, on a server of the run's own."""

    def __init__(self, port: int) -> None:
        self._redis = Redis(port=port, socket_timeout=10)
        self._redis.set("auth:epoch", secrets.token_hex(16))
        self._redis.xadd("auth:revocations", {"kind": "start"})

    def end(self, *sessions: str) -> None:
        until = int(time.time()) + LIFETIME + 60
        for first in range(0, len(sessions), 1_000):
            pipeline = self._redis.pipeline(transaction=False)
            for session in sessions[first : first + 1_000]:
                pipeline.xadd("auth:revocations", {"kind": "session", "sid": session, "until": until})
            pipeline.execute()


class Session:
    """A signed-in client on one keep-alive connection."""

    def __init__(self, gateway: Target, tokens: TokenMaker) -> None:
        self.id = secrets.token_urlsafe(16)
        self._headers = {"Authorization": f"Bearer {tokens.token(self.id)}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
        self.status()

    def status(self) -> int:
        self._connection.request("GET", PATH, headers=self._headers)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def wait_until_refused(self, patience: float = PATIENCE, pause: float = 0.0) -> float:
        """Seconds until the first 401."""
        started = time.perf_counter()
        while (status := self.status()) == 200 and time.perf_counter() - started < patience:
            if pause:
                time.sleep(pause)
        if status != 401:
            raise Spoilt(f"a revoked token was answered {status}")
        self._connection.close()
        return time.perf_counter() - started


def measure_seen(gateway: Target, stream: Stream, tokens: TokenMaker, count: int) -> dict[str, float]:
    """From just before the entry is written to the first refusal, asked again and again."""
    delays = []
    for _ in range(count):
        session = Session(gateway, tokens)
        started = time.perf_counter()
        stream.end(session.id)
        session.wait_until_refused()
        delays.append((time.perf_counter() - started) * 1e3)
    delays.sort()
    return {
        "count": count,
        "p50_ms": median(delays),
        "p99_ms": delays[int(count * 0.99)],
        "max_ms": delays[-1],
    }


def measure_held(
    load: Load,
    empty: Target,
    holding: Target,
    stream: Stream,
    tokens: TokenMaker,
    rounds: int,
    count: int,
    seconds: int,
) -> dict[str, float]:
    """Two gateways that differ in what they hold, read in turn."""
    last = Session(holding, tokens)
    memory = Memory(holding.programs[0].worker())
    before = memory.resident()
    stream.end(*(secrets.token_urlsafe(16) for _ in range(count)), last.id)
    last.wait_until_refused(PATIENCE_FOR_MANY, pause=0.05)
    grown = memory.resident() - before
    pairs = [
        (load.at_rate(empty, RATE, seconds), load.at_rate(holding, RATE, seconds)) for _ in range(rounds)
    ]
    return {
        "count": count,
        "memory_mb": grown / 1e6,
        "p99_ms_without": median(without.p99_ms for without, _ in pairs),
        "p99_ms_with": median(holding.p99_ms for _, holding in pairs),
        "p99_change_ms": median(holding.p99_ms - without.p99_ms for without, holding in pairs),
    }
