"""Two readings of every row: requests per second at saturation, CPU time per request at a fixed rate."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Load, Reading
from benchmarks.targets import Target

RATE = 1_000  # requests a second, open loop, for every row that can hold it


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    target: str
    rate: int = RATE
    fresh: bool = False
    saturated: bool = True


ROWS = (
    Row("gateway", "gateway"),
    Row("gateway_fresh_tokens", "gateway", fresh=True),
    Row("haproxy_jwt", "haproxy_jwt"),
    Row("haproxy_jwt_fresh_tokens", "haproxy_jwt", fresh=True),
    Row("nginx_plain", "nginx_plain"),
    # These two cannot hold RATE; read well below their limit they would look dearer than they are.
    Row("nginx_auth_request", "nginx_auth_request", rate=400),
    Row("tutorial", "tutorial", rate=80),
    # In no ratio: what a request costs when hardly any come, and every wake-up is for one of them.
    Row("gateway_at_80_per_second", "gateway", rate=80, saturated=False),
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
    at_rate: dict[str, list[Reading]]

    def medians(self) -> dict[str, float]:
        return {name: median(r.per_second for r in readings) for name, readings in self.saturated.items()}

    def cpu_us(self) -> dict[str, float]:
        return {name: median(r.cpu_us for r in readings) for name, readings in self.at_rate.items()}

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
    at_rate: dict[str, list[Reading]] = defaultdict(list)
    for row in ROWS:
        load.saturate(targets[row.target], 1, fresh=row.fresh)  # pools, memos and pages are warm
    for number in range(rounds):
        for row in _rotated(number):
            target = targets[row.target]
            text = f"  round {number + 1}/{rounds}  {row.name:26}"
            if row.saturated:
                reading = load.saturate(target, seconds, fresh=row.fresh)
                saturated[row.name].append(reading)
                text += f"{reading.per_second:10,.0f} req/s, core {reading.busy:4.0%} busy"
            reading = load.at_rate(target, row.rate, seconds, fresh=row.fresh)
            at_rate[row.name].append(reading)
            print(f"{text:76}{reading.cpu_us:9,.1f} us/request at {row.rate:,}/s", flush=True)
    return Throughput(dict(saturated), dict(at_rate))


def _rotated(number: int) -> tuple[Row, ...]:
    """Each round begins elsewhere, so that no row always follows the same one."""
    first = number * 3 % len(ROWS)
    return ROWS[first:] + ROWS[:first]
