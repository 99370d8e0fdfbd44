"""argon2id off the event loop: as many threads as cores, a bounded queue, and a dummy for nobody."""

import asyncio
import contextvars
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import ClassVar, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service_kit.problems import Problem
from user_service.credentials import django_hashes

T = TypeVar("T")

# OWASP's floor: 19 MiB, two passes, one lane.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class HashingBusy(Problem):
    """The queue is full: refused at once, so that health and other calls never wait behind hashing."""

    status: ClassVar[int] = HTTPStatus.SERVICE_UNAVAILABLE
    code = "hashing_busy"
    title = "Too many passwords are being checked right now"


class Passwords:
    """Hashes and checks passwords; every call costs one hash, whether there is an account or not."""

    def __init__(self, threads: int = 0, queue: int = 64, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._threads = threads or len(os.sched_getaffinity(0))
        self._places = self._threads + queue
        self._taken = 0
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="argon2")
        self._dummy = self._hasher.hash("nobody's password")

    async def hash(self, password: str) -> str:
        return await self._in_thread(lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`; None costs the same and is never right."""
        return await self._in_thread(lambda: self._matches(stored, password))

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with weaker parameters, or by another system."""
        return django_hashes.supported(stored) or self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """How many calls have no thread yet."""
        return max(0, self._taken - self._threads)

    def _matches(self, stored: str | None, password: str) -> bool:
        if stored is not None and django_hashes.supported(stored):
            return django_hashes.verify(stored, password)
        usable = stored is not None and stored.startswith("$argon2")
        try:
            self._hasher.verify(stored if stored and usable else self._dummy, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False
        return usable

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._taken >= self._places:
            raise HashingBusy(headers={"Retry-After": "1"})
        self._taken += 1
        future = self._pool.submit(contextvars.copy_context().run, work)
        loop = asyncio.get_running_loop()
        # The place is free when the thread is, not when a cancelled caller stops waiting.
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._leave, done))
        return await asyncio.wrap_future(future)

    def _leave(self, _done: "Future[T]") -> None:
        self._taken -= 1


def _normalised(password: str) -> str:
    """The same keystrokes give the same code points on every system (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
