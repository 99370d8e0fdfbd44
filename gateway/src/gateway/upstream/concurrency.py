"""Adaptive concurrency: how many requests may wait for a service at once follows how fast it responds.

The idea is that of Envoy's adaptive concurrency filter and of Netflix's concurrency-limits; the rule is ours
(docs/decisions/2026-11-28-concurrency-adapts.md). It is additive increase and multiplicative decrease:

    slow      = seconds > slow_factor * usual[route] + slow_share * deadline
    overload  = more than half of at least `samples` responses of a period are slow,
                in `periods` periods in a row, and the queue does not shrink
    limit     = max(minimum, decrease * min(limit, peak))    on an overload
    limit     = min(maximum, limit * (1 + increase))         in a period without one

Requests beyond the limit are refused at once. Without it all would wait longer and longer, until all of them time out.
A queue that came while the service paused for a moment, and that drains by itself, is no overload.

A service that is behind works on the requests of departed clients, too, until it notices. They are counted until then,
and how long the service takes to notice is judged as a response time.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """The numbers of the rule. Times are in seconds."""

    minimum: int = 64  # a client that waits for its responses is one of few, and few are never refused
    period: float = 0.08  # a little less than a tick, which may come early
    samples: int = 5
    periods: int = 2
    slow_factor: float = 3.0
    slow_share: float = 0.1  # of the route's deadline for the first byte
    calm: int = 8  # with fewer waiting, a route's response times are its usual ones
    smoothing: float = 0.05  # of the moving average of the usual time
    shrinking: float = 0.95  # a queue that shrinks so in each period is gone within two seconds
    decrease: float = 0.7
    increase: float = 0.1
    departed_share: float = 0.25  # of the maximum that departed clients may fill


RULE: Final = Rule()


class AdaptiveConcurrency:
    """Counts the requests that were sent whole and wait for the first byte of their response."""

    __slots__ = (
        "_before",
        "_departed",
        "_judged",
        "_maximum",
        "_overloads",
        "_peak",
        "_period_ends",
        "_slow",
        "_usual",
        "limit",
        "waiting",
    )

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.limit = maximum
        self.waiting = 0
        self._departed = 0  # those of the waiting whose client has left
        self._usual: dict[str, float] = {}  # the usual response time of each route
        self._judged = 0
        self._slow = 0
        self._peak = 0
        self._before = 0  # how many waited a period ago
        self._overloads = 0  # periods in a row
        self._period_ends = 0.0

    def responded(self, route: str, seconds: float, deadline: float) -> None:
        """Counts a response, or a deadline that passed without one."""
        self.waiting -= 1
        usual = self._usual.get(route)
        if usual is None:
            self._usual[route] = seconds  # the first of a queue found a calm service
        elif self.waiting < RULE.calm:
            self._usual[route] = usual + (seconds - usual) * RULE.smoothing
        else:
            self._judged += 1
            if seconds > RULE.slow_factor * usual + RULE.slow_share * deadline:
                self._slow += 1
            if self.waiting > self._peak:
                self._peak = self.waiting

    def left(self) -> None:
        """Forgets one that waited: its response time stays unknown."""
        self.waiting -= 1

    def keep(self, *, counted: bool) -> bool:
        """Counts a request whose client has left until the service notices; False where too many are. A service that
        never notices is not filled with them. `counted`: the request is among those that wait."""
        if self._departed >= self._maximum * RULE.departed_share:
            return False
        self._departed += 1
        if not counted:
            self.waiting += 1
        return True

    def noticed(self, route: str, seconds: float, deadline: float) -> None:
        """The service noticed a departure after so many seconds: it is that far behind."""
        self._departed -= 1
        self.responded(f"{route} left", seconds, deadline)

    def sweep(self, now: float) -> None:
        """Adapts the limit once a period."""
        if now < self._period_ends:
            return
        self._period_ends = now + RULE.period
        if 0 < self._judged < RULE.samples and self.waiting >= RULE.calm:
            return  # a service that is far behind gives few responses: they are judged together with the next ones
        slow = self._judged >= RULE.samples and self._slow * 2 > self._judged
        stays = self.waiting > self._before * RULE.shrinking
        self._overloads = self._overloads + 1 if slow and stays else 0
        if self._overloads >= RULE.periods or (slow and self.limit < self._maximum):
            self.limit = max(RULE.minimum, int(min(self.limit, self._peak) * RULE.decrease))
        elif not slow and self.limit < self._maximum:
            self.limit = min(self._maximum, self.limit + max(1, int(self.limit * RULE.increase)))
        self._before = self.waiting
        self._judged = self._slow = self._peak = 0
