"""Some parts of a file, as one file."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

Part = bytes | range  # bytes of its own, or where in the file


class Excerpt(io.RawIOBase):
    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._file = file
        self._parts = [part for part in parts if len(part)]
        # Searched, not counted through: a picture in thousands of parts would take the square of their number.
        *self._starts, self._size = accumulate(map(len, self._parts), initial=0)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def] # a Buffer, which has a name from Python 3.12 on
        if self._position >= self._size:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        at = self._position - self._starts[number]
        piece = self._read(self._parts[number][at : at + len(buffer)])
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _read(self, part: Part) -> bytes:
        if isinstance(part, bytes):
            return part
        self._file.seek(part.start)
        return self._file.read(len(part))
