"""Places for calls to one service: so many at once, and no network takes those of all others."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.http import Client, NoResponse

RETRY_SECONDS: Final = 1.0
# A network has calls under way for a quarter of the places that are left by all (dynamic thresholds; Choudhury and
# Hahne, 1998): 13 of 64 if it is alone, 8 each of four. Its others wait.
SHARE: Final = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    network: str
    turn: asyncio.Future[None]


class Bulkhead:
    """At most `width` calls under way or waiting, each within its deadline; the next is refused at once, unless another
    network has more that wait: then the last of those is.

    Once a call got no answer, no other call did meanwhile, and no address is left to try, one call a second finds out
    whether that is over; the others are refused at once.
    """

    def __init__(self, http: Client, width: int, deadline: float) -> None:
        self._http = http
        self._width = width
        self._deadline = deadline
        self._inside = 0
        self._under_way = Counter[str]()
        self._line: list[_Waiting] = []
        self._responded_at = -math.inf
        self._next_try = 0.0  # not before then, if not 0: it is silent

    @asynccontextmanager
    async def place(self, network: str = "") -> AsyncIterator[None]:
        """Without a network nobody waits."""
        began = time.monotonic()
        if began < self._next_try or not self._has_room(network):
            raise UsersUnavailable
        if self._next_try:
            self._next_try = began + RETRY_SECONDS  # this one finds out
        self._inside += 1
        begins_at_once = self._may_begin(network)
        try:
            async with asyncio.timeout(self._deadline):
                await self._take_turn(network)
                try:
                    yield
                finally:
                    self._end_turn(network)
        except (NoResponse, TimeoutError) as failure:
            # Whoever waited had less than its time for an answer, if it asked at all.
            if begins_at_once and self._responded_at < began and self._http.failing:
                self._next_try = time.monotonic() + RETRY_SECONDS
            logger.warning("user-service did not answer: %s", str(failure) or type(failure).__name__)
            raise UsersUnavailable from failure
        else:
            self._responded_at, self._next_try = time.monotonic(), 0.0
        finally:
            self._inside -= 1

    def _has_room(self, network: str) -> bool:
        if self._inside < self._width:
            return True
        self._drop_given_up()
        waiting = Counter(each.network for each in self._line)
        [(most, count)] = waiting.most_common(1) or [("", 0)]
        if count <= waiting[network]:
            return False
        last = next(each for each in reversed(self._line) if each.network == most)
        self._line.remove(last)
        last.turn.set_exception(UsersUnavailable())
        return True

    async def _take_turn(self, network: str) -> None:
        if self._may_begin(network):
            self._under_way[network] += 1
            return
        waiting = _Waiting(network, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._line:
                self._line.remove(waiting)
            elif not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._end_turn(network)  # it came at the same moment
            raise

    def _may_begin(self, network: str) -> bool:
        left = self._width - self._under_way.total()
        return not network or self._under_way[network] < max(1, left // SHARE)

    def _end_turn(self, network: str) -> None:
        self._under_way[network] -= 1
        if not self._under_way[network]:
            del self._under_way[network]
        self._drop_given_up()
        for waiting in self._line[:]:
            if self._may_begin(waiting.network):
                self._line.remove(waiting)
                self._under_way[waiting.network] += 1
                waiting.turn.set_result(None)

    def _drop_given_up(self) -> None:
        """Of a call that is cancelled or out of time, which has not heard of it yet."""
        self._line = [each for each in self._line if not each.turn.done()]
