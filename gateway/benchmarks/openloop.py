"""Load at a fixed rate: requests leave when they are due, whether or not earlier ones have been answered.

`python -m benchmarks.openloop PORT PATH TOKENS RATE SECONDS` prints one line of JSON. Latency counts from the
moment a request was found due; one that finds all connections busy waits, and its wait counts. The clock that
decides what is due ticks each millisecond; how late it ran is told as `late_ms`.
"""

import asyncio
import json
import sys
from collections import deque
from pathlib import Path

import uvloop

from benchmarks.client import Connection, message
from benchmarks.tokens import tokens_for_ever

CONNECTIONS = 64
GRACE = 15.0  # seconds that the last answers may take


class OpenLoop:
    def __init__(self, path: str, tokens: Path, rate: float, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._tokens = tokens_for_ever(tokens)
        self._rate = rate
        self._total = int(rate * seconds)
        self._issued = 0
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._sent: dict[Connection, float] = {}
        self._failed = 0
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._finished = self._loop.create_future()

    async def run(self, port: int) -> dict[str, float]:
        for _ in range(CONNECTIONS):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._record_response), "127.0.0.1", port
            )
            self._idle.append(connection)
        self._start = self._loop.time()
        self._tick()
        async with asyncio.timeout(self._total / self._rate + GRACE):
            await self._finished
        return {
            "requests": self._total,
            "seconds": self._loop.time() - self._start,
            "failed": self._failed,
            "p50_ms": _percentile(self._latencies, 0.50),
            "p99_ms": _percentile(self._latencies, 0.99),
            "max_ms": _percentile(self._latencies, 1.0),
            "late_ms": _percentile(self._late, 0.99),
        }

    def _tick(self) -> None:
        now = self._loop.time()
        while self._issued < self._total and (planned := self._start + self._issued / self._rate) <= now:
            self._issued += 1
            self._late.append(now - planned)
            self._due.append(now)
        self._send()
        if self._issued < self._total:
            self._loop.call_at(self._start + self._issued / self._rate, self._tick)

    def _send(self) -> None:
        while self._due and self._idle:
            connection = self._idle.popleft()
            self._sent[connection] = self._due.popleft()
            connection.send(message(self._path, next(self._tokens)))

    def _record_response(self, connection: Connection, status: int) -> None:
        self._latencies.append(self._loop.time() - self._sent.pop(connection))
        if status != 200:
            self._failed += 1
        if status:
            self._idle.append(connection)
            self._send()
        if len(self._latencies) == self._total:
            self._finished.set_result(None)


def _percentile(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3, 3)


if __name__ == "__main__":
    port, path, tokens, rate, seconds = sys.argv[1:]

    async def main() -> None:
        print(json.dumps(await OpenLoop(path, Path(tokens), float(rate), float(seconds)).run(int(port))))

    uvloop.run(main())
