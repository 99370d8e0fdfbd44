"""What the gateway adds to one request at a time: its p50 and p99 less those of the upstream alone."""

from statistics import median

from benchmarks.load import Load
from benchmarks.targets import Target


def measure(load: Load, gateway: Target, direct: Target, rounds: int, seconds: int) -> dict[str, float]:
    pairs = []
    for _ in range(rounds):
        bare = load.saturate(direct, seconds, connections=1)
        through = load.saturate(gateway, seconds, connections=1)
        pairs.append((bare, through))
    return {
        "direct_p50": median(bare.p50_ms for bare, _ in pairs),
        "direct_p99": median(bare.p99_ms for bare, _ in pairs),
        "added_p50": median(through.p50_ms - bare.p50_ms for bare, through in pairs),
        "added_p99": median(through.p99_ms - bare.p99_ms for bare, through in pairs),
    }
