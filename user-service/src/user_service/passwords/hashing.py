"""argon2id off the event loop: a bounded number of threads and of places, and a dummy for nobody."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from user_service.passwords import django_hashes
from user_service.passwords.exceptions import HashingBusy

T = TypeVar("T")

# OWASP's floor: 19 MiB, two passes, one lane.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# The rest is for the process itself, for pictures, and for one old hash of up to 128 MiB.
SHARE_OF_MEMORY: Final = 4
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


def usable_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The bytes that the container may use; None without a limit, or one beyond any machine's memory (cgroup v1)."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return int((cgroup / name).read_text())
    return None


def usable_threads(workers: int = 1, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """One for each core, as far as their hashes fit into a share of the memory that the workers have together."""
    cores, memory = usable_cores(cgroup), usable_memory(cgroup)
    if memory is None:
        return cores
    return max(1, min(cores, memory // SHARE_OF_MEMORY // (HASHER.memory_cost * 1024) // workers))


@dataclass(frozen=True, slots=True)
class Pools:
    """Threads for hashes of ours and whatever takes no more memory, and one for what takes more."""

    ours: ThreadPoolExecutor
    large: ThreadPoolExecutor

    def of(self, stored: str | None) -> ThreadPoolExecutor:
        """The one that checks this hash."""
        return self.large if django_hashes.kib(stored or "") > HASHER.memory_cost else self.ours


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
        threads = threads or usable_threads()
        self._free = threads + queue
        self._not_for_anybody = self._free // 2
        self._pools = Pools(
            ThreadPoolExecutor(threads, thread_name_prefix="argon2", initializer=_step_back),
            # One at a time: of Django's, one takes 100 MiB, and has a core for each of its lanes.
            ThreadPoolExecutor(1, thread_name_prefix="old-hash", initializer=_step_back),
        )
        self._dummy = self._hasher.hash("nobody's password")

    @contextmanager
    def place(self, *, besides: int = 0) -> Iterator["Place"]:
        """A place in the queue, or HashingBusy. Who takes it before asking the database is refused cheaply."""
        if self._free <= besides:
            raise HashingBusy(headers={"Retry-After": "1"})
        self._free -= 1
        place = Place(self._pools, self._hasher, self._dummy)
        try:
            yield place
        finally:
            place.when_left(self._leave)

    async def hash(self, password: str, *, for_anybody: bool = False) -> str:
        """`for_anybody`: whoever asks has shown nothing yet, and may do so from many addresses at once. Half of the
        places are not for them."""
        with self.place(besides=self._not_for_anybody if for_anybody else 0) as place:
            return await place.hash(password)

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with weaker parameters, or by another system."""
        return django_hashes.supported(stored) or self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        for pool in (self._pools.ours, self._pools.large):
            pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self._free += 1
        self._when_done()


class Place:
    """One caller's: what they want hashed and checked, one after the other."""

    def __init__(self, pools: Pools, hasher: PasswordHasher, dummy: str) -> None:
        self._pools = pools
        self._hasher = hasher
        self._dummy = dummy
        self._work: Future[Any] | None = None

    async def hash(self, password: str) -> str:
        return await self._in(self._pools.ours, lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`; None costs the same and is never right.

        Raises argon2's VerificationError if that cannot be told: without memory for it no password is wrong.
        """
        return await self._in(self._pools.of(stored), lambda: self._matches(stored, password))

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

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        self._work = pool.submit(contextvars.copy_context().run, work)
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
