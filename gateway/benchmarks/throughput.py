"""Two readings of every row: requests per second at saturation, CPU time per request at a fixed rate."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Load, Reading
from benchmarks.targets import Target

BRISK = 2_000  # requests a second; about half of what the slowest of the fast rows can take
GENTLE = (
    50  # the same for the two rows that decode in FastAPI; the gateway is read at both, like against like
)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    target: str
    rate: int = BRISK
    fresh: bool = False
    saturated: bool = True


ROWS = (
    Row("gateway", "gateway"),
    Row("gateway_fresh_tokens", "gateway", fresh=True),
    Row("haproxy_jwt", "haproxy_jwt"),
    Row("haproxy_jwt_fresh_tokens", "haproxy_jwt", fresh=True),
    Row("nginx_plain", "nginx_plain"),
    Row("nginx_auth_request", "nginx_auth_request", rate=GENTLE),
    Row("tutorial", "tutorial", rate=GENTLE),
    Row("gateway_gentle", "gateway", rate=GENTLE, saturated=False),
)

# Of each ratio: its name, our row at saturation, our row at the peer's fixed rate, the peer's row.
COMPARISONS = (
    ("haproxy_jwt", "gateway", "gateway", "haproxy_jwt"),
    ("haproxy_jwt_fresh_tokens", "gateway_fresh_tokens", "gateway_fresh_tokens", "haproxy_jwt_fresh_tokens"),
    ("nginx_auth_request", "gateway", "gateway_gentle", "nginx_auth_request"),
    ("tutorial", "gateway", "gateway_gentle", "tutorial"),
    ("nginx_plain", "gateway", "gateway", "nginx_plain"),
)


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
        return {name: rates[ours] / rates[theirs] for name, ours, _, theirs in COMPARISONS}

    def cpu_ratios(self) -> dict[str, float]:
        """How many requests the gateway answers for the processor time that the peer takes for one."""
        costs = self.cpu_us()
        return {name: costs[theirs] / costs[ours] for name, _, ours, theirs in COMPARISONS}


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
