"""Two readings of every row: requests per second at saturation, CPU time per request at fixed rates."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Load, Reading
from benchmarks.targets import Target

# Requests a second, open loop. The last decides: about half of what HAProxy takes, as machines in use are loaded.
RATES = (80, 400, 1_000, 4_000)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    target: str
    rates: tuple[int, ...] = RATES
    fresh: bool = False

    @property
    def rate(self) -> int:
        return self.rates[-1]


ROWS = (
    Row("gateway", "gateway"),
    Row("gateway_fresh_tokens", "gateway", RATES[-1:], fresh=True),
    Row("haproxy_jwt", "haproxy_jwt"),
    Row("haproxy_jwt_fresh_tokens", "haproxy_jwt", RATES[-1:], fresh=True),
    Row("nginx_plain", "nginx_plain"),
    # These two cannot hold that; about half of what they take is their last.
    Row("nginx_auth_request", "nginx_auth_request", (80, 400, 1_000)),
    Row("tutorial", "tutorial", (80, 200)),
)

# Of each ratio: the peer's row, and ours.
COMPARISONS = {
    "haproxy_jwt": "gateway",
    "haproxy_jwt_fresh_tokens": "gateway_fresh_tokens",
    "nginx_auth_request": "gateway",
    "tutorial": "gateway",
    "nginx_plain": "gateway",
}


@dataclass(frozen=True, slots=True)
class Throughput:
    saturated: dict[str, list[Reading]]
    at_rate: dict[tuple[str, int], list[Reading]]

    def medians(self) -> dict[str, float]:
        return {name: median(r.per_second for r in readings) for name, readings in self.saturated.items()}

    def cpu_us(self) -> dict[str, float]:
        costs = self.cpu_us_by_rate()
        return {row.name: costs[row.name][row.rate] for row in ROWS}

    def cpu_us_by_rate(self) -> dict[str, dict[int, float]]:
        return {
            row.name: {rate: median(r.cpu_us for r in self.at_rate[row.name, rate]) for rate in row.rates}
            for row in ROWS
        }

    def busy(self) -> dict[str, float]:
        return {name: median(r.busy for r in readings) for name, readings in self.saturated.items()}

    def ratios(self) -> dict[str, float]:
        """The gateway's requests per second over each peer's."""
        rates = self.medians()
        return {theirs: rates[ours] / rates[theirs] for theirs, ours in COMPARISONS.items()}

    def cpu_ratios(self) -> dict[str, float]:
        """How many requests the gateway answers for the processor time that the peer takes for one."""
        costs = self.cpu_us()
        return {theirs: costs[theirs] / costs[ours] for theirs, ours in COMPARISONS.items()}


def measure(load: Load, targets: dict[str, Target], rounds: int, seconds: int) -> Throughput:
    saturated: dict[str, list[Reading]] = defaultdict(list)
    at_rate: dict[tuple[str, int], list[Reading]] = defaultdict(list)
    for row in ROWS:
        load.saturate(targets[row.target], 1, fresh=row.fresh)  # pools, memos and pages are warm
    for number in range(rounds):
        for row in _rotated(number):
            target = targets[row.target]
            text = f"  round {number + 1}/{rounds}  {row.name:26}"
            reading = load.saturate(target, seconds, fresh=row.fresh)
            saturated[row.name].append(reading)
            print(
                f"{text}{reading.per_second:10,.0f} req/s, core {reading.busy:4.0%} busy", end="", flush=True
            )
            for rate in row.rates:
                reading = load.at_rate(target, rate, seconds, fresh=row.fresh)
                at_rate[row.name, rate].append(reading)
                print(f"{reading.cpu_us:9,.1f} us at {rate:,}/s", end="", flush=True)
            print()
    return Throughput(dict(saturated), dict(at_rate))


def _rotated(number: int) -> tuple[Row, ...]:
    """Each round begins elsewhere, so that no row always follows the same one."""
    first = number * 3 % len(ROWS)
    return ROWS[first:] + ROWS[:first]
