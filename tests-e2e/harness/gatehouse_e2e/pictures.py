"""Pictures made by hand, so that the suites need no picture library."""

from __future__ import annotations

import struct
import zlib


def png(side: int, colour: bytes = b"\x40\x80\xc0", *, rows: bytes | None = None) -> bytes:
    """A square of one colour with a comment inside; `rows` are its pixels instead, right or not."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = (b"\0" + colour * side) * side if rows is None else rows
    parts = (
        b"IHDR" + head,
        b"tEXtComment\0canary-metadata",
        b"IDAT" + zlib.compress(pixels),
        b"IEND",
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def gif_and_script() -> bytes:
    """A GIF that a browser would run as a script: its width begins a comment, which ends behind the last frame."""
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;"
    return b"GIF89a/*\x01\0\x80\0\0\xff\0\0\0\0\xff" + frame + b"*/=1;alert(document.domain)//"
