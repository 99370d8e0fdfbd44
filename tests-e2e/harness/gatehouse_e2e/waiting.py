"""Waiting for a condition, bounded, and telling how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable


class NeverHappened(AssertionError):
    """The condition did not come true in its time."""


def until(condition: Callable[[], object], within: float, what: str, every: float = 0.05) -> float:
    """Seconds until the condition was true; NeverHappened, naming `what`, after `within` seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise NeverHappened(f"not within {within:g} s: {what}")
        time.sleep(every)
    return time.monotonic() - began
