"""The floors and aims that this suite answers for, each with where its figure stands in the results."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Promise:
    text: str
    where: str  # keys of the results, joined by dots
    floor: float
    aim: float
    unit: str
    more_is_better: bool = False

    def verdict(self, value: float) -> str:
        sign = 1 if self.more_is_better else -1
        if value * sign >= self.aim * sign:
            return "aim"
        return "floor" if value * sign >= self.floor * sign else "below"


def _ratio(text: str, name: str, floor: float, aim: float) -> Iterator[Promise]:
    yield Promise(f"{text}: req/s", f"ratios.{name}", floor, aim, "x", more_is_better=True)
    yield Promise(f"{text}: CPU per request", f"cpu_ratios.{name}", floor, aim, "x", more_is_better=True)


PROMISES = (
    *_ratio("HAProxy jwt_verify, token seen", "haproxy_jwt", 2, 3),
    *_ratio("HAProxy jwt_verify, fresh tokens", "haproxy_jwt_fresh_tokens", 0.6, 0.9),
    *_ratio("nginx auth_request to FastAPI", "nginx_auth_request", 10, 15),
    *_ratio("tutorial gateway", "tutorial", 60, 100),
    *_ratio("nginx without a check", "nginx_plain", 0.4, 0.65),
    Promise("added latency p50", "latency_ms.added_p50", 0.3, 0.15, "ms"),
    Promise("added latency p99", "latency_ms.added_p99", 1.5, 0.8, "ms"),
    Promise("all at once to a 1 s upstream", "burst.wall_seconds", 2.5, 1.5, "s"),
    Promise("large bodies: memory growth", "bulk.rss_growth_mib", 8, 4, "MiB"),
    Promise("large bodies: download over nginx", "bulk.down_ratio", 0.4, 0.7, "x", more_is_better=True),
    Promise("large bodies: upload over nginx", "bulk.up_ratio", 0.4, 0.7, "x", more_is_better=True),
    Promise("revocations held: memory", "revocations_held.memory_mb", 30, 15, "MB"),
    Promise("revocations held: p99 change", "revocations_held.p99_change_ms", 0.2, 0.05, "ms"),
    Promise("revocation seen p99", "revocation_seen.p99_ms", 250, 50, "ms"),
    Promise("revocation seen max", "revocation_seen.max_ms", 1000, 250, "ms"),
    Promise("memory of a worker", "worker.resident_mb", 110, 80, "MB"),
    Promise("start to ready", "worker.seconds_to_ready", 3, 1.5, "s"),
)


def figure(results: dict[str, Any], promise: Promise) -> float:
    found: Any = results
    for key in promise.where.split("."):
        found = found[key]
    return float(found)
