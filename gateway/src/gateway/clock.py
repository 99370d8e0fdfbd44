"""The time as the whole worker sees it: read once a tick, not once a question."""

import time


class Clock:
    """`now` is the event loop's monotonic time, a tick old at most."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = time.monotonic()

    def tick(self) -> float:
        self.now = time.monotonic()
        return self.now
