"""What a run leaves behind: a table to read, and every figure as JSON."""

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Promise:
    text: str
    figure: str
    floor: float
    aim: float
    at_most: bool = True

    def verdict(self, value: float) -> str:
        def held(bound: float) -> bool:
            return value <= bound if self.at_most else value >= bound

        return "aim" if held(self.aim) else "floor" if held(self.floor) else "below"


PROMISES = (
    Promise("/v1/users/me over a bare SELECT", "me_over_bare_select", 0.5, 0.65, at_most=False),
    Promise("the same, by CPU time", "me_over_bare_select_by_cpu", 0.5, 0.65, at_most=False),
    Promise("last page, in first pages", "last_page_over_first", 1.3, 1.05),
    Promise("the same, by CPU time", "last_page_over_first_by_cpu", 1.3, 1.05),
    Promise("memory of a worker, MB", "resident_mb", 110, 80),
    Promise("start to ready, s", "seconds_to_ready", 3, 1.5),
    Promise("loop lag p99 while hashing, ms", "loop_lag_p99_ms", 10, 4),
    Promise("a change seen by every verifier, p99, ms", "change_seen_p99_ms", 1000, 300),
    Promise("the same, the latest, ms", "change_seen_max_ms", 3000, 1000),
)
LIBRARIES = ("fastapi", "sqlalchemy", "asyncmy", "uvloop", "uvicorn", "httpx")


def print_people(measured: dict[str, Any]) -> None:
    print(f"\n{measured['people']:,} people, made up in {measured['seeding_seconds']:,.0f} s")
    print(f"\n{'16 at once, medians':44}{'per second':>12}{'CPU us each':>14}")
    for name, rate in measured["per_second"].items():
        print(f"  {name:42}{rate:12,.0f}{measured['cpu_us'][name]:14,.0f}")
    print("\nindexes")
    for name, plan in measured["plans"].items():
        tables = "; ".join(f"{row['table']} by {row['key']} ({row['type']})" for row in plan)
        print(f"  {name:24}{tables}")


def print_verdicts(figures: dict[str, float]) -> None:
    print(f"\n{'promise':44}{'measured':>10}{'floor':>8}{'aim':>8}  verdict")
    for promise in PROMISES:
        value = figures[promise.figure]
        print(f"  {promise.text:42}{value:10,.2f}{promise.floor:8}{promise.aim:8}  {promise.verdict(value)}")
    print(f"  {'of the lag, a server that does nothing':42}{figures['idle_lag_p99_ms']:10,.2f}")


def print_pauses(measured: dict[str, Any]) -> None:
    print(f"\n{'seconds until the last answer':44}" + "".join(f"{calls:>12}" for calls in measured["calls"]))
    for name, row in measured["seconds"].items():
        cells = "".join(
            f"{row[calls]:12.2f}" if calls in row else f"{'-':>12}" for calls in measured["calls"]
        )
        print(f"  {name:42}{cells}")


def write(measured: dict[str, Any], file: Path) -> None:
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {library: version(library) for library in LIBRARIES},
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(_rounded(measured | about), indent=2) + "\n")
    print(f"\nwritten: {file.name}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
