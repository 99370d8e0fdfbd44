"""Request bodies on their way in: a small one is collected first, a larger one streams at a least rate.

A client that drips its body holds a little memory for a bounded time, and no connection to a service.
"""

from typing import Final

from gateway.http1.head import Head

COLLECTED_MOST: Final = 16 * 1024  # bytes of one body; a larger one streams
_HELD_MOST: Final = (
    32 * 1024 * 1024
)  # bytes of all collected bodies of a worker; beyond it small ones stream too


class Bodies:
    """What is allowed to a body, and how much of all of them is held."""

    __slots__ = ("held", "held_most", "least_rate", "seconds")

    def __init__(self, seconds: float, least_rate: float) -> None:
        self.seconds = seconds  # for a collected body, in all
        self.least_rate = least_rate  # bytes a second of a streamed body, over a route's idle_seconds
        self.held_most = _HELD_MOST
        self.held = 0


class Body:
    """One request's body, as far as it waits here, and how fast it passes."""

    __slots__ = ("_bodies", "_chunked", "_counted", "_early", "_passed", "collecting")

    def __init__(self, head: Head, bodies: Bodies) -> None:
        self._bodies = bodies
        self._chunked = head.chunked
        self._early = b""  # what came before there was a connection
        self._counted = 0  # bytes of it that count as held
        self._passed = 0  # bytes since the client's time was last renewed
        # A service that was told to expect a body has to ask for it first.
        self.collecting = not head.expects_continue and (head.length or 0) <= COLLECTED_MOST

    def keep(self, chunk: bytes, last: bool) -> bool:
        """Keeps a piece until there is a connection; False if it was being collected and there is no room for more."""
        self._early += chunk
        if self.collecting:
            bodies, size = self._bodies, len(chunk)
            # The last piece needs no room: nobody waits for the client any more, and the requests that wait for the
            # service are bounded themselves. So those who drip never keep out who sends at once.
            self.collecting = last or (
                self._counted + size <= COLLECTED_MOST and bodies.held + size <= bodies.held_most
            )
            if not self.collecting:
                return False
            self._counted += size
            bodies.held += size
        return True

    def forget(self) -> None:
        self._early = b""
        self._bodies.held -= self._counted
        self._counted = 0

    def passed(self, size: int, seconds: float) -> bool:
        """Counts what passed; whether it is as much as has to come in `seconds`."""
        self._passed += size
        if self._passed < self._bodies.least_rate * seconds:
            return False
        self._passed = 0
        return True

    def early(self, complete: bool) -> bytes:
        """What is kept, as it is sent."""
        early = self.framed(self._early) if self._early else b""
        return early + b"0\r\n\r\n" if self._chunked and complete else early

    def framed(self, chunk: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk
