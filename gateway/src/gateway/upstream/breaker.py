"""Stops asking a service that does not answer, and lets one request a period find out whether it is back."""

from typing import Final

_THRESHOLD: Final = 5
_PROBE_PERIOD: Final = 1.0


class Breaker:
    """Opens after consecutive failures; while open, one probe a period passes (half-open); any success closes it."""

    __slots__ = ("_next_probe", "failures", "open")

    def __init__(self) -> None:
        self.open = False
        self.failures = 0
        self._next_probe = 0.0

    def admits(self, now: float) -> bool:
        if not self.open:
            return True
        if now < self._next_probe:
            return False
        # One probe a period, not one at a time: a probe into a black hole must not delay the next by its deadline.
        self._next_probe = now + _PROBE_PERIOD
        return True

    def succeeded(self) -> None:
        self.failures = 0
        self.open = False

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= _THRESHOLD and not self.open:
            self.open = True
            self._next_probe = now + _PROBE_PERIOD
