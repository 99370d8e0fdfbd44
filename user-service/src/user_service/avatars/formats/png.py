"""PNG (W3C PNG, third edition). Of a moving one (APNG) the picture that every decoder shows."""

import zlib
from typing import BinaryIO, Final

from user_service.avatars.formats.excerpt import Part
from user_service.avatars.formats.header import (
    MOST_EXIF_BYTES,
    MOST_PROFILE_BYTES,
    BrokenHeader,
    Header,
    read_exactly,
)

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS: Final = 20_000  # each costs Pillow two microseconds; encoders put 8 KiB and more into one
# A palette's index, RGBA, and RGBA once more while it is scaled. All others take less, but for grey of 16 bits of which
# one value is transparent: that is looked for in 32.
HELD_PER_PIXEL: Final = 9
HELD_PER_PIXEL_SEARCHED: Final = 12
OVERHEAD: Final = 12  # length, type and checksum of a chunk
GREY, RGB = 0, 2


def read_header(file: BinaryIO) -> Header:
    file.seek(len(SIGNATURE))
    if read_exactly(file, 8) != b"\0\0\0\x0dIHDR":
        raise BrokenHeader
    head = read_exactly(file, 13)
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    at = file.tell() + 4
    parts: list[Part] = [range(at)]
    held, exif, profile = HELD_PER_PIXEL, b"", None
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        begin = file.read(8)
        length, kind = int.from_bytes(begin[:4], "big"), begin[4:]
        end = at + OVERHEAD + length
        if len(begin) < 8 or kind == b"IEND":
            parts.append(range(at, end))
            held *= width * height
            return Header("PNG", (width, height), held, parts, exif=exif, profile=profile or b"")
        if kind == b"IDAT" or (kind == b"PLTE" and length <= 768):
            parts.append(range(at, end))
        elif kind == b"tRNS" and length <= 256:
            parts.append(_transparency(read_exactly(file, length), head))
            held = HELD_PER_PIXEL_SEARCHED if _is(head, 16, GREY) else held
        elif kind in (b"PLTE", b"IHDR"):
            raise BrokenHeader
        elif kind == b"eXIf" and not exif:
            exif = file.read(min(length, MOST_EXIF_BYTES))
        elif kind == b"iCCP" and profile is None:
            # The first alone, good or bad: to unpack all that fit into a file takes seconds.
            profile = _profile(file.read(min(length, MOST_PROFILE_BYTES)))
        at = end
    raise BrokenHeader


def _is(head: bytes, depth: int, colours: int) -> bool:
    return head[8:10] == bytes([depth, colours])


def _transparency(body: bytes, head: bytes) -> bytes:
    """The chunk. Pillow keeps the upper half of a colour's 16 bits, so that half is what it has to look for."""
    if _is(head, 16, RGB):
        body = b"".join(b"\0" + body[at : at + 1] for at in (0, 2, 4))
    return _chunk(b"tRNS" + body)


def _chunk(content: bytes) -> bytes:
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _profile(body: bytes) -> bytes:
    """What stands behind the name and the method; nothing if it is broken or too large."""
    _, _, compressed = body.partition(b"\0")
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(compressed[1:], MOST_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if decompressor.eof else b""
