"""argon2id off the event loop: as many threads as cores, a bounded queue, and a dummy for nobody."""

import asyncio
import contextvars
import math
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from user_service.passwords import django_hashes
from user_service.passwords.exceptions import HashingBusy

T = TypeVar("T")

# OWASP's floor: 19 MiB, two passes, one lane.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# On a core that both want, the event loop gets nine parts of ten; its lag (p99) is less than half of what it was without.
# Not SCHED_IDLE, which leaves next to nothing: beside a loop that is busy all the time one sign-in got through, not five.
NICENESS: Final = 10


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """As many as the container's quota fills: more threads would spend it early, and the event loop then stands still."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        if (limit := cgroup / "cpu.max").exists():  # cgroup v2; without a quota it says max
            quota, period = limit.read_text().split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        if int(quota) > 0:
            return max(1, min(cores, math.floor(int(quota) / int(period))))
    return cores


class Passwords:
    """Hashes and checks passwords; every call costs one hash, whether there is an account or not."""

    def __init__(
        self,
        threads: int = 0,
        queue: int = 32,
        hasher: PasswordHasher = HASHER,
        when_done: Callable[[], None] = lambda: None,
    ) -> None:
        """`when_done` is called on the event loop whenever a caller has left."""
        self._hasher = hasher
        self._when_done = when_done
        threads = threads or usable_cores()
        self._free = threads + queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2", initializer=_step_back)
        self._dummy = self._hasher.hash("nobody's password")

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A place in the queue, or HashingBusy. Who takes it before asking the database is refused cheaply."""
        if self._free < 1:
            raise HashingBusy(headers={"Retry-After": "1"})
        self._free -= 1
        place = Place(self._pool, self._hasher, self._dummy)
        try:
            yield place
        finally:
            place.when_left(self._leave)

    async def hash(self, password: str) -> str:
        with self.place() as place:
            return await place.hash(password)

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with weaker parameters, or by another system."""
        return django_hashes.supported(stored) or self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self._free += 1
        self._when_done()


class Place:
    """One caller's: what they want hashed and checked, one after the other."""

    def __init__(self, pool: ThreadPoolExecutor, hasher: PasswordHasher, dummy: str) -> None:
        self._pool = pool
        self._hasher = hasher
        self._dummy = dummy
        self._work: Future[Any] | None = None

    async def hash(self, password: str) -> str:
        return await self._in_thread(lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`; None costs the same and is never right.

        Raises argon2's VerificationError if that cannot be told: without memory for it no password is wrong.
        """
        return await self._in_thread(lambda: self._matches(stored, password))

    def when_left(self, leave: Callable[[], None]) -> None:
        """Call `leave` once the thread is free, too: it works to the end, even if its caller was cancelled."""
        if self._work is None or self._work.done():
            leave()
        else:
            loop = asyncio.get_running_loop()
            self._work.add_done_callback(lambda _: loop.call_soon_threadsafe(leave))

    def _matches(self, stored: str | None, password: str) -> bool:
        if stored is not None and django_hashes.supported(stored):
            return django_hashes.verify(stored, password)
        usable = stored is not None and stored.startswith("$argon2")
        try:
            self._hasher.verify(stored if stored and usable else self._dummy, _normalised(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
        return usable

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._work = self._pool.submit(contextvars.copy_context().run, work)
        done: T = await asyncio.wrap_future(self._work)
        return done


def _step_back() -> None:
    """Leave the cores to the event loop whenever it wants one; where threads have no priority, nothing."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _normalised(password: str) -> str:
    """The same keystrokes give the same code points on every system (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
