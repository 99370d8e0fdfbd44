"""Decoding in turns: next is the picture of whoever has had the least of the decoder, that picture included.

So whoever sends costly pictures again and again waits for everybody else. Light pictures have a thread of their own,
in which they never wait for a costly one to end.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final, TypeVar
from uuid import UUID

from user_service.avatars.exceptions import AvatarsBusy
from user_service.avatars.formats.header import Header
from user_service.avatars.images import decode, read_bounded_header
from user_service.users.allowance import TooManyChanges

T = TypeVar("T")

LIGHT_SECONDS: Final = 0.06  # the photo of a telephone; holds 30 MB at most
WAIT_SECONDS: Final = 3.0  # for a turn; the costliest picture takes half a second of a processor
MOST_WAITING: Final = 16  # each has a file; beyond that whoever has had the most is refused
SECONDS_AN_HOUR: Final = 30.0  # of a processor for one person, all at once or one after the other

SOON: Final = {"Retry-After": "1"}


class DecoderShares:
    """How many processor seconds each person has had; they are forgiven at SECONDS_AN_HOUR."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._forgiven_at: dict[UUID, float] = {}

    def __len__(self) -> int:
        return len(self._forgiven_at)

    def had(self, person: UUID) -> float:
        return max(0.0, self._forgiven_at.get(person, 0.0) - self._clock()) * SECONDS_AN_HOUR / 3600

    def require(self, person: UUID) -> None:
        """Raise TooManyChanges if the person has had more than their share of an hour."""
        over = self.had(person) - SECONDS_AN_HOUR
        if over > 0:
            raise TooManyChanges(headers={"Retry-After": str(math.ceil(over * 3600 / SECONDS_AN_HOUR))})

    def charge(self, person: UUID, seconds: float) -> None:
        now = self._clock()
        # Few are left: two threads cannot spend faster than 240 people are forgiven.
        self._forgiven_at = {one: at for one, at in self._forgiven_at.items() if at > now}
        spent = seconds * 3600 / SECONDS_AN_HOUR
        self._forgiven_at[person] = max(now, self._forgiven_at.get(person, now)) + spent


class Decoder:
    """Two threads, so that the memory of a costly picture is needed once, and that of a light one once."""

    def __init__(self) -> None:
        self.shares = DecoderShares()
        self._light = _Bulkhead(self.shares)
        self._costly = _Bulkhead(self.shares)

    def close(self) -> None:
        self._light.close()
        self._costly.close()

    async def reencode(self, person: UUID, file: BinaryIO) -> bytes:
        """Raises UnreadablePicture, TooManyPixels or AvatarsBusy."""
        made = await self._light.run(person, 0.0, lambda: _decode_light(file))
        if isinstance(made, bytes):
            return made
        header = made
        return await self._costly.run(person, header.seconds, lambda: decode(file, header))


def _decode_light(file: BinaryIO) -> bytes | Header:
    """The picture, or the header of one that has to wait for its turn among the costly."""
    header = read_bounded_header(file)
    return decode(file, header) if header.seconds <= LIGHT_SECONDS else header


class _Bulkhead:
    """One thread, and whoever waits for it."""

    def __init__(self, shares: DecoderShares) -> None:
        self._shares = shares
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="avatar")
        self._busy = False
        self._numbers = itertools.count()
        self._waiting: dict[tuple[float, int], asyncio.Future[None]] = {}
        self._took = 0.0  # processor seconds of the work that ended last

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, person: UUID, seconds: float, work: Callable[[], T]) -> T:
        """Does the work, which takes about so many seconds, in the person's turn."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._take_turn(self._shares.had(person) + seconds)
        except TimeoutError as busy:
            raise AvatarsBusy(headers=SOON) from busy
        self._took = 0.0
        try:
            working = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                # The thread reads the file to the end, even if nobody waits: it must not be closed under it.
                await asyncio.wait({working})
                raise
        finally:
            self._shares.charge(person, self._took)
            self._end_turn()

    def _timed(self, work: Callable[[], T]) -> T:
        began = time.thread_time()
        try:
            return work()
        finally:
            self._took = time.thread_time() - began

    async def _take_turn(self, had: float) -> None:
        if not self._busy:
            self._busy = True
            return
        place = (had, next(self._numbers))
        turn = self._waiting[place] = asyncio.get_running_loop().create_future()
        if len(self._waiting) > MOST_WAITING:
            self._waiting.pop(max(self._waiting)).set_exception(AvatarsBusy(headers=SOON))
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(place, None)
            # The turn, or the refusal, came at the same moment.
            if not turn.cancelled() and turn.exception() is None:
                self._end_turn()
            raise

    def _end_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.pop(min(self._waiting))
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False
