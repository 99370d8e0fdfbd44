"""What a picture will cost to decode, read from its head before any decoder sees it."""

from typing import BinaryIO

START_OF_IMAGE = b"\xff\xd8"
START_OF_SCAN = b"\xff\xda"
# A profile or a note of megabytes takes a hundred; Pillow takes the square of what Exif has.
MOST_SEGMENTS = 1000
STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment: TEM, RSTn, SOI


class BrokenHeader(Exception):
    """The file ends, or means nothing, before its picture begins."""


def webp_canvas(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height (RFC 9649, sections 2.5 to 2.7), None if this is no WebP.

    Pillow's decoder allocates the whole canvas while opening, before it can be asked for its size.
    """
    file.seek(0)
    head = file.read(30)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    chunk, body = head[12:16], head[20:]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        raise BrokenHeader
    return width, height


def jpeg_scans(file: BinaryIO) -> tuple[int, bool] | None:
    """The number of scans, and whether the first one holds all components; None if this is no JPEG.

    A decoder keeps a full-size copy of the coefficients unless one scan holds everything, and goes over
    the whole picture once more for each further scan.
    """
    components = 0
    file.seek(0)
    if file.read(2) != START_OF_IMAGE:
        return None
    for _ in range(MOST_SEGMENTS):
        marker = _next_marker(file)
        if marker in STANDALONE:
            continue
        body = file.read(_segment_length(file))
        if marker == 0xDA:
            complete = bool(body) and body[0] == components
            return 1 + _count_scans(file), complete
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            components = body[5]
    raise BrokenHeader


def _next_marker(file: BinaryIO) -> int:
    if file.read(1) != b"\xff":
        raise BrokenHeader
    while (byte := file.read(1)) == b"\xff":
        pass  # fill bytes
    if not byte:
        raise BrokenHeader
    return byte[0]


def _segment_length(file: BinaryIO) -> int:
    length = int.from_bytes(file.read(2), "big")
    if length < 2:
        raise BrokenHeader
    return length - 2


def _count_scans(file: BinaryIO) -> int:
    # In entropy-coded data the marker's two bytes never stand together: a plain search misses none.
    found, last = 0, b""
    while piece := file.read(256 * 1024):
        found += (last + piece).count(START_OF_SCAN)
        last = piece[-1:]
    return found
