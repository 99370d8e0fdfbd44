"""The time as the whole worker sees it: read once a tick, not once a question."""

import time
from email.utils import formatdate
from functools import lru_cache


class Clock:
    """`now` is the event loop's monotonic time, a tick old at most."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = time.monotonic()

    def tick(self) -> float:
        self.now = time.monotonic()
        return self.now


@lru_cache(maxsize=1)
def date(second: int) -> bytes:
    """The Date field of a response that is given, or came without one, in this second of Unix time."""
    return b"Date: " + formatdate(second, usegmt=True).encode()
