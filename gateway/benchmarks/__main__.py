"""`python -m benchmarks`: the gateway and its peers side by side, in one interleaved run."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import bulk, burst, inprocess, latency, machine, report, revocations, throughput
from benchmarks.load import Load, Spoilt
from benchmarks.processes import Memory, Program, stopping
from benchmarks.targets import Peers
from benchmarks.tokens import TokenMaker

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    seconds: int
    burst: int
    bulk_bytes: int
    seen: int
    held: int
    results: Path


FULL = Plan(3, 5, 2_000, 2**30, 500, 100_000, RESULTS / "latest.json")
QUICK = Plan(1, 1, 500, 2**26, 30, 10_000, RESULTS / "quick.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=["gateway"], default="gateway", help="the only one here")
    parser.add_argument("--quick", action="store_true", help="prove within a minute that everything works")
    parser.add_argument("--rounds", type=int, default=FULL.rounds, help="at least three count (default: 3)")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="what the gateway's own code costs a request; neither peers nor sockets",
    )
    options = parser.parse_args()
    plan = QUICK if options.quick else replace(FULL, rounds=options.rounds)
    machine.use_debians_interpreter()
    if options.in_process:
        inprocess.measure(20_000)
        return 0
    try:
        machine.install_peers()
        machine.raise_file_limit()
        cores = machine.split_cores()
        os.sched_setaffinity(0, cores[1])  # the suite and all load it makes keep off the measured core
        with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder, stopping() as programs:
            Path(folder).chmod(0o755)  # nginx's worker is another user when root starts it
            measure(plan, Path(folder), cores, programs)
    except (machine.Unfit, Spoilt) as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    return 0


def measure(
    plan: Plan, folder: Path, cores: tuple[frozenset[int], frozenset[int]], programs: list[Program]
) -> None:
    say = announcer()
    say("starting upstreams, peers and gateway")
    tokens = TokenMaker(folder / "keys")
    started = Peers(folder, folder / "keys", cores, programs)
    started.start_upstreams()
    redis, other_redis = started.redis("redis"), started.redis("redis-held")
    stream, other_stream = revocations.Stream(redis), revocations.Stream(other_redis)
    gateway, holding = started.gateway("gateway", redis), started.gateway("gateway-held", other_redis)
    nginx = started.nginx_plain()
    peers = (nginx, started.nginx_auth_request(), started.haproxy_jwt(), started.tutorial())
    load = Load(tokens)

    say(f"throughput: {plan.rounds} interleaved rounds")
    targets = {target.name: target for target in (gateway, *peers)}
    readings = throughput.measure(load, targets, plan.rounds, plan.seconds)
    resident = Memory(gateway.programs[0].worker()).resident()
    say("latency of one connection")
    one = latency.measure(load, gateway, started.direct(), plan.rounds, max(1, plan.seconds // 2))
    say(f"{plan.burst:,} requests at once")
    at_once = burst.measure(gateway, tokens, plan.rounds, plan.burst)
    say(f"{plan.bulk_bytes >> 20:,} MiB each way")
    bodies = bulk.measure(gateway, nginx, tokens, plan.rounds, plan.bulk_bytes)
    say(f"{plan.seen:,} revocations seen")
    seen = revocations.measure_seen(gateway, stream, tokens, plan.seen)
    say(f"{plan.held:,} revocations held")
    held = revocations.measure_held(
        load, gateway, holding, other_stream, tokens, plan.rounds, plan.held, plan.seconds
    )

    results: dict[str, Any] = {
        "medians": readings.medians(),
        "cpu_us_per_request": readings.cpu_us(),
        "cpu_us_by_rate": readings.cpu_us_by_rate(),
        "ratios": readings.ratios(),
        "cpu_ratios": readings.cpu_ratios(),
        "rounds": plan.rounds,
        "versions": machine.versions(),
        "machine": machine.describe(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "core_busy": readings.busy(),
        "latency_ms": one,
        "burst": at_once,
        "bulk": bodies,
        "revocation_seen": seen,
        "revocations_held": held,
        "worker": {
            "resident_mb": resident / 1e6,
            "seconds_to_ready": median([gateway.seconds_to_ready, holding.seconds_to_ready]),
        },
    }
    report.print_table(results)
    report.write(results, plan.results)
    print(f"\nwritten: {plan.results} and {plan.results.with_suffix('.png').name}")


def announcer() -> Callable[[str], None]:
    started = datetime.now(UTC)

    def say(text: str) -> None:
        print(f"[{(datetime.now(UTC) - started).total_seconds():4.0f} s] {text}", flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
