"""What services told one worker of this gateway, for all of its workers: memory that they share since before the fork."""

import fcntl
import mmap
import os
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service_kit.response_revocations import MOST_ENTRIES

_SLOTS: Final = 2048
_SLOT: Final = 640  # the longest entry of the kit's reader has an id of 255 characters, each of them escaped
_BEGINNING: Final = 64
_LOCK_SECONDS: Final = 0.02


class SharedRevocations:
    """A ring of short texts. The lock is the kernel's, which releases it for a worker that dies."""

    def __init__(self, slots: int = _SLOTS) -> None:
        self._slots = slots
        self._memory = mmap.mmap(-1, _BEGINNING + slots * _SLOT)
        # How many were ever written: the one word that a reader looks at before each check.
        self.written: Final = memoryview(self._memory).cast("Q")
        self._lock, path = tempfile.mkstemp()
        Path(path).unlink()
        weakref.finalize(self, os.close, self._lock)

    def append(self, texts: Sequence[bytes]) -> bool:
        """All workers see them from here on; False if one that was stopped keeps the lock."""
        with self._locked() as locked:
            if locked:
                written = self.written[0]
                for number, text in enumerate(texts, written):
                    at = self._at(number)
                    self._memory[at : at + 2 + len(text)] = len(text).to_bytes(2) + text
                self.written[0] = written + len(texts)
        return locked

    def since(self, position: int) -> tuple[list[bytes], int, bool]:
        """The texts behind that position, the new position, and whether some were written over meanwhile."""
        with self._locked() as locked:
            written = self.written[0]
            # Whoever has the lock, and was stopped, may be writing over the oldest.
            kept = self._slots if locked else self._slots - MOST_ENTRIES
            first = min(max(position, written - kept), written)
            texts = [self._text(self._at(number)) for number in range(first, written)]
        return texts, written, first > position

    def _at(self, number: int) -> int:
        return _BEGINNING + number % self._slots * _SLOT

    def _text(self, at: int) -> bytes:
        return self._memory[at + 2 : at + 2 + int.from_bytes(self._memory[at : at + 2])]

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether the lock is ours in here. It is waited for as long as anybody at work has it, and a little more."""
        locked = self._lock_in_time()
        try:
            yield locked
        finally:
            if locked:
                fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _lock_in_time(self) -> bool:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.0005)
            else:
                return True
