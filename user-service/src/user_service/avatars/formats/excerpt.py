"""Some parts of a file, as one file."""

import io
from collections.abc import Sequence
from typing import BinaryIO

Part = bytes | range  # bytes of its own, or where in the file


class Excerpt(io.RawIOBase):
    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._file = file
        self._parts = parts
        self._size = sum(map(len, parts))
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
        at = self._position
        for part in self._parts:
            if at < len(part):
                piece = self._read(part[at : at + len(buffer)])
                buffer[: len(piece)] = piece
                self._position += len(piece)
                return len(piece)
            at -= len(part)
        return 0

    def _read(self, part: Part) -> bytes:
        if isinstance(part, bytes):
            return part
        self._file.seek(part.start)
        return self._file.read(len(part))
