"""Sends load to a target and says what came of it; a reading with one failed request is no reading."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.targets import PEERS, Target
from benchmarks.tokens import TokenMaker

PATH = "/v1/items/42"
ATTEMPTS = 2
MOST_FRESH = 80_000  # tokens a second: more than any target here can verify
SLACK = 0.25  # seconds that the last answers of a fixed rate may come late


class Spoilt(Exception):
    """Requests failed or the rate was not held: the reading says nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    requests: int
    seconds: float
    cpu_seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.requests * 1e6

    @property
    def busy(self) -> float:
        """Share of its core that the target used; well below 1, something else was the limit."""
        return self.cpu_seconds / self.seconds


class Load:
    def __init__(self, tokens: TokenMaker) -> None:
        self._tokens = tokens
        self._fresh_per_second = 5_000

    def saturate(
        self, target: Target, seconds: int, *, fresh: bool = False, connections: int = 64
    ) -> Reading:
        """As much as the target takes over `connections`, closed loop."""
        wrk = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        wrk += ["--timeout", "10s", "--script", str(PEERS / "load.lua")]
        wrk.append(f"http://127.0.0.1:{target.port}{PATH}")
        while True:
            count = self._fresh_per_second * seconds if fresh else 1
            ran_out, reading = _read(target, [*wrk, "--", str(self._tokens.file(count))])
            if not ran_out:
                return reading
            # A token used twice would not be fresh.
            too_few = f"{target.name}: {count:,} fresh tokens were too few for {seconds} s"
            if self._fresh_per_second >= MOST_FRESH:
                raise Spoilt(too_few)
            self._fresh_per_second *= 2
            print(f"  {too_few}: once more, with twice as many", flush=True)

    def at_rate(self, target: Target, rate: int, seconds: int, *, fresh: bool = False) -> Reading:
        """`rate` requests a second, open loop; of a machine too busy for that, the reading that came closest."""
        readings = []
        for _ in range(ATTEMPTS):
            file = self._tokens.file(rate * seconds if fresh else 1)
            command = [sys.executable, "-m", "benchmarks.openloop", str(target.port), PATH, str(file)]
            _, reading = _read(target, [*command, str(rate), str(seconds)])
            readings.append(reading)
            if reading.seconds < seconds + SLACK:
                break
            print(f"  {target.name} got {reading.per_second:,.0f} of {rate:,} requests a second", flush=True)
        return max(readings, key=lambda reading: reading.per_second)


def _read(target: Target, command: list[str]) -> tuple[bool, Reading]:
    before = target.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    used = target.cpu_seconds() - before
    if done.returncode != 0:
        raise Spoilt(
            f"{target.name}: {command[0]} ended with {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}"
        )
    said = json.loads(done.stdout.splitlines()[-1])
    ran_out = said.get("ran_out", False)  # then the reading is none, and its last requests were stopped
    if said["failed"] and not ran_out:
        raise Spoilt(f"{target.name}: {said['failed']} of {said['requests']} requests failed")
    reading = Reading(said["requests"], said["seconds"], used, said["p50_ms"], said["p99_ms"])
    return ran_out, reading
