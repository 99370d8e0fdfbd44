"""What the load saw: every request with its times and outcome, and the invariants checked afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["served", "refused", "limited", "unavailable", "failed", "broken", "hung"]


@dataclass(slots=True)
class Exchange:
    """One request. Times are seconds since the history began; `started` lags `planned` when we are slow."""

    operation: str
    planned: float
    started: float
    may_succeed: bool | None = True  # None: whether or not, either is right just now
    first_byte: float | None = None
    ended: float = 0
    status: int = 0
    code: str | None = None
    media_type: str = ""
    request_id: str | None = None
    retry_after: str | None = None
    failure: str = ""  # what the connection did, when there was no answer
    wrong: str = ""  # what is wrong with the body of a success

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def outcome(self) -> Outcome:
        if self.failure:
            return "hung" if self.failure == "timeout" else "broken"
        if self.status < 400:
            return "served"
        if self.status == 429:
            return "limited"
        if self.status in (502, 503, 504):
            return "unavailable"
        return "refused" if self.status < 500 else "failed"

    def __str__(self) -> str:
        said = self.failure or f"{self.status} {self.code or ''} {self.wrong}"
        took = f"{self.seconds * 1000:.0f} ms"
        return f"{self.planned:8.3f}s {self.operation}: {said.strip()} after {took} [{self.request_id}]"


@dataclass(frozen=True, slots=True)
class Span:
    """When a fault was in force."""

    name: str
    began: float
    ended: float


@dataclass(slots=True)
class History:
    exchanges: list[Exchange] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _under_way: dict[int, float] = field(default_factory=dict)  # since when
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        return time.monotonic() - self.began

    def begin(self, exchange: Exchange) -> None:
        with self._lock:
            self._under_way[id(exchange)] = exchange.started

    def add(self, exchange: Exchange) -> None:
        """It is over."""
        with self._lock:
            self._under_way.pop(id(exchange), None)
            self.exchanges.append(exchange)

    def calm(self, seconds: float) -> bool:
        """Whether nothing planned in the last `seconds` failed, and nothing sent before them is still waiting."""
        since = self.now() - seconds
        with self._lock:
            longest = min(self._under_way.values(), default=since)
        return longest >= since and not self.failures(since=since)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        began = self.now()
        try:
            yield
        finally:
            self.spans.append(Span(name, began, self.now()))

    def select(
        self,
        *operations: str,
        since: float = 0,
        before: float = float("inf"),
        where: Callable[[Exchange], bool] = lambda _: True,
    ) -> list[Exchange]:
        """Exchanges planned in [since, before), in the order of planning."""
        with self._lock:
            seen = list(self.exchanges)
        chosen = [
            one
            for one in seen
            if since <= one.planned < before
            and (not operations or one.operation in operations)
            and where(one)
        ]
        return sorted(chosen, key=lambda one: one.planned)

    def operations(self) -> list[str]:
        return sorted({one.operation for one in self.select()})

    def failures(self, *operations: str, since: float = 0, before: float = float("inf")) -> list[Exchange]:
        """Requests that ought to have been served and were not."""
        return self.select(
            *operations,
            since=since,
            before=before,
            where=lambda one: one.may_succeed is True and one.outcome != "served",
        )

    def back_after(self, *operations: str, since: float) -> float:
        """Seconds from `since` to the planning of the last request that failed (0: none did)."""
        failed = self.failures(*operations, since=since)
        return max((one.planned for one in failed), default=since) - since

    def slowest(self, *operations: str, since: float = 0, before: float = float("inf")) -> float:
        """Seconds the slowest exchange took."""
        return max((one.seconds for one in self.select(*operations, since=since, before=before)), default=0)

    def percentile(
        self, share: float, *operations: str, since: float = 0, before: float = float("inf")
    ) -> float:
        return percentile(share, self.select(*operations, since=since, before=before))


def percentile(share: float, exchanges: Sequence[Exchange]) -> float:
    """Seconds that `share` (0..1) of the exchanges took at most, counted from their planned time."""
    taken = sorted(one.ended - one.planned for one in exchanges)
    return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else 0


@dataclass(frozen=True, slots=True)
class Latencies:
    """What one operation's callers waited, in milliseconds from the planned time: whoever comes late waits too."""

    operation: str
    requests: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, history: History, operation: str) -> Latencies:
        waits = (history.percentile(share, operation) * 1000 for share in (0.5, 0.9, 0.99, 1))
        return cls(operation, len(history.select(operation)), *waits)


def _problem(one: Exchange) -> bool:
    oauth = one.operation.startswith("auth:") and one.media_type == "application/json"
    return (one.media_type == "application/problem+json" or oauth) and bool(one.code) and bool(one.request_id)


INVARIANTS: dict[str, Callable[[Exchange], bool]] = {
    "no success for a bad or revoked token": lambda one: (
        one.may_succeed is not False or one.outcome != "served"
    ),
    "no body of another user": lambda one: not one.wrong,
    "a good token is never refused": lambda one: not one.may_succeed or one.status not in (401, 403),
    "no session ends by a fault": lambda one: not one.may_succeed or one.code != "invalid_grant",
    "every 5xx is a problem with code and request id": lambda one: one.status < 500 or _problem(one),
    "nothing hangs past its deadline": lambda one: one.failure != "timeout",
    "no answer with bad framing": lambda one: one.failure != "bad framing",
}


def violations(history: History) -> list[str]:
    """One line for each exchange that broke an invariant."""
    return [
        f"{name}: {one}"
        for name, holds in INVARIANTS.items()
        for one in history.select(where=lambda one, holds=holds: not holds(one))  # type: ignore[misc]
    ]
