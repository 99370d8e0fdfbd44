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


def progressive_jpeg(width: int, height: int) -> bytes:
    """Grey, in one scan of one bit for each block: a decoder holds six bytes for each pixel all the same."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    blocks = -(-width // 8) * -(-height // 8)
    components = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    parts = (
        segment(0xDB, b"\0" + b"\x01" * 64),
        segment(0xC4, b"\0\x01" + bytes(16)),
        segment(0xC2, struct.pack(">BHHB", 8, height, width, 3) + components),
        segment(0xDA, b"\x03" + bytes([1, 0, 2, 0, 3, 0]) + bytes(3)),
        bytes(blocks * 3 // 8 + 1),
    )
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"
