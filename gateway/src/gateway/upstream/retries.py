"""Which requests may be sent a second time, and how many of them."""

from typing import Final

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_SHARE: Final = 0.2
_AT_LEAST: Final = 3
_PERIOD: Final = 10.0


class RetryBudget:
    """Retries are at most a fifth of the requests of the last ten to twenty seconds, but three are always there."""

    __slots__ = ("_earlier", "_period_ends", "requests", "retries", "total")

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.total = 0  # since the start, for metrics
        self._earlier = (0, 0)
        self._period_ends = 0.0

    def take(self, now: float) -> bool:
        """Whether one more retry may be made; counts it if so."""
        requests, retries = self._earlier
        if self.retries + retries >= max(_AT_LEAST, _SHARE * (self.requests + requests)):
            return False
        self.retries += 1
        self.total += 1
        return True

    def sweep(self, now: float) -> None:
        if now >= self._period_ends:
            self._earlier = (self.requests, self.retries)
            self.requests = self.retries = 0
            self._period_ends = now + _PERIOD
