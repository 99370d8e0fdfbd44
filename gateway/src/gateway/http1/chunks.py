"""Reads the chunked transfer coding (RFC 9112, 7.1) one way, a bounded number of chunks at a time.

The gateway writes chunks of its own to the service, so nobody behind it reads these. But where the body ends, the next
request begins: whatever others could read differently is refused.
"""

import re
from typing import Final

from gateway.http1.head import BadRequest, HeadTooLarge

CHUNKS_A_TURN: Final = 1024  # a millisecond's worth
MAX_LINE: Final = 1024  # of a chunk's first line: its size and extensions, which are passed over
MAX_TRAILERS: Final = 16 * 1024
_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BEGINNING: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?")

# What comes next, where it is no payload.
_LINE_END: Final = 0  # behind a chunk's payload
_SIZE: Final = -1
_TRAILERS: Final = -2


class ChunkedBody:
    """Where in a chunked body its reader is."""

    __slots__ = ("_left", "_unread", "over", "trailers", "turn_over")

    def __init__(self) -> None:
        self._left = _SIZE  # bytes of the payload that are still to come, else what comes next
        self._unread = b""  # less than a line, or what the next turn begins with
        self.turn_over = False  # there is more here: to be read in another turn
        self.over = False
        self.trailers = b""  # once it is over: the lines behind the last chunk, with the empty one

    def read(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The payload in pieces; and once it is over, what came behind it. BadRequest, HeadTooLarge."""
        if self._unread:
            data = self._unread + data
        at, more = 0, True
        parts: list[bytes] = []
        for _ in range(CHUNKS_A_TURN):
            if self._left > 0:
                piece = data[at : at + self._left]
                if piece:
                    parts.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if self._left:
                    more = False
                    break
            at, more = self._read_framing(data, at)
            if not more:
                break
        self.turn_over = more and at < len(data)
        rest = data[at:]
        self._unread = b"" if self.over else rest
        return parts, rest if self.over else b""

    def _read_framing(self, data: bytes, at: int) -> tuple[int, bool]:
        """From the end of a payload to the beginning of the next; how far that is here, and whether there is one."""
        if self._left == _LINE_END:
            end = data[at : at + 2]
            if end != b"\r\n":
                if end not in (b"", b"\r"):
                    raise BadRequest("A chunk is longer than its size.")
                return at, False
            at += 2
            self._left = _SIZE
        if self._left == _SIZE:
            line_end = data.find(b"\r\n", at, at + MAX_LINE)
            if line_end < 0:
                _check_beginning(data[at : at + MAX_LINE])
                return at, False
            line = _LINE.fullmatch(data, at, line_end)
            if line is None:
                raise BadRequest(
                    "A chunk's first line is not a hexadecimal number with or without extensions."
                )
            at = line_end + 2
            self._left = int(line[1], 16) or _TRAILERS
        return (at, True) if self._left > 0 else (self._read_trailers(data, at), False)

    def _read_trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            end = at + 2
        else:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4:
                if len(data) - at > MAX_TRAILERS:
                    raise HeadTooLarge(f"The trailers have more than {MAX_TRAILERS} bytes.")
                return at
        self.over = True
        self.trailers = data[at:end]
        return end


def _check_beginning(line: bytes) -> None:
    """Refuses at once what can become no chunk's first line."""
    if len(line) >= MAX_LINE:
        raise BadRequest(f"A chunk's first line is longer than {MAX_LINE} bytes.")
    if not _BEGINNING.fullmatch(line):
        raise BadRequest("A chunk's size is not a hexadecimal number.")
