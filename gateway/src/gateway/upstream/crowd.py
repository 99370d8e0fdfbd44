"""How many requests may wait for a service at once: as many as it answers about as fast as when it is calm.

A service that gets more than it can do only lets everyone wait. So who comes to a crowd is refused at once, and those
who are in it are served in a bounded time; without it they would wait longer and longer, until all of them time out.
A crowd that came while the service paused for a moment, and that goes away again by itself, is none of that kind.

A service that is behind works on the requests of clients who have left, too, until it notices. So they are counted until
then, and how long it takes to notice is judged as an answer is.
"""

from typing import Final

FEW: Final = (
    64  # so many may wait whatever it takes them: any client that waits for its answers is one of few
)
_CALM: Final = 8  # with fewer than so many waiting, what a route takes is what it usually takes
_LEARNS: Final = 0.05
_SLOWER: Final = 3.0
_SHARE: Final = 0.1  # of the time that the route gives the service for its first byte
_PERIOD: Final = 0.08  # a little less than a tick, which may come early
_ENOUGH: Final = 5  # answers to judge by
_STAYS: Final = 2  # periods in a row of slow answers to a crowd that does not shrink
_DEPARTED: Final = 0.25  # at most this share of all who may wait have left
_SHRINKS: Final = 0.95  # in a period, and so is gone within two seconds


class Crowd:
    """Counts the requests that have been sent whole and wait for the first byte of their answer."""

    __slots__ = (
        "_before",
        "_departed",
        "_judged",
        "_most",
        "_peak",
        "_period_ends",
        "_slow",
        "_stays",
        "_usual",
        "limit",
        "waiting",
    )

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = most
        self.waiting = 0
        self._departed = 0  # those of them whose client has left
        self._usual: dict[str, float] = {}  # what each route takes when the service is calm, in seconds
        self._judged = 0
        self._slow = 0
        self._peak = 0
        self._before = 0  # how many waited a period ago
        self._stays = 0
        self._period_ends = 0.0

    def answered(self, route: str, seconds: float, deadline: float) -> None:
        """One that waited is answered, or has waited until its deadline."""
        self.waiting -= 1
        usual = self._usual.get(route)
        if usual is None:
            self._usual[route] = seconds  # who came first to a crowd found a calm service
        elif self.waiting < _CALM:
            self._usual[route] = usual + (seconds - usual) * _LEARNS
        else:
            self._judged += 1
            if seconds > _SLOWER * usual + _SHARE * deadline:
                self._slow += 1
            if self.waiting > self._peak:
                self._peak = self.waiting

    def left(self) -> None:
        """One that waited is gone, and nothing is known of how long it would have taken."""
        self.waiting -= 1

    def keep(self, *, counted: bool) -> bool:
        """Whether one whose client has left goes on to wait until the service has noticed. A quarter of all may: a
        service that never notices is not filled with them. `counted`: it is among those who wait."""
        if self._departed >= self._most * _DEPARTED:
            return False
        self._departed += 1
        if not counted:
            self.waiting += 1
        return True

    def noticed(self, route: str, seconds: float, deadline: float) -> None:
        """The service has noticed that a client has left, so many seconds after it did: how far it is behind."""
        self._departed -= 1
        self.answered(f"{route} left", seconds, deadline)

    def sweep(self, now: float) -> None:
        """Fewer at once when most are slow and the crowd stays, and until they are not; then more again."""
        if now < self._period_ends:
            return
        self._period_ends = now + _PERIOD
        if 0 < self._judged < _ENOUGH and self.waiting >= _CALM:
            return  # a service that is far behind answers few: they are judged together with the next ones
        slow = self._judged >= _ENOUGH and self._slow * 2 > self._judged
        self._stays = self._stays + 1 if slow and self.waiting > self._before * _SHRINKS else 0
        if self._stays >= _STAYS or (slow and self.limit < self._most):
            self.limit = max(FEW, int(min(self.limit, self._peak) * 0.7))
        elif not slow and self.limit < self._most:
            self.limit = min(self._most, self.limit + max(1, self.limit // 10))
        self._before = self.waiting
        self._judged = self._slow = self._peak = 0
