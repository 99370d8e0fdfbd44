"""What hashing and pictures took of memory goes back to the system, once there was neither for a moment.

The C library keeps what is freed: of argon2's 19 MiB one piece for every thread, for ever. Told to return each
at once it makes every hash half as dear again, since the system hands pages out one by one. So they stay while
there is work, and go when it is over.
"""

import asyncio
import ctypes
from typing import Final

CALM_SECONDS: Final = 2.0
MIB: Final = 2**20
# glibc's <malloc.h>
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8


def use_one_arena() -> None:
    """Before the first thread: one heap for all of them, since the others could not be trimmed."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(M_TRIM_THRESHOLD, 256 * MIB)


class FreedMemory:
    """Told of each piece of big work that ended, it trims after the last; where it cannot, it does nothing."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._calm: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        self.work_ended()  # starting is big work, too

    def work_ended(self) -> None:
        if self._calm:
            self._calm.cancel()
        self._calm = asyncio.get_running_loop().call_later(CALM_SECONDS, self._return_freed)

    def _return_freed(self) -> None:
        self._calm = None
        if self._trim:
            self._trim(0)
