"""JPEG (ITU-T T.81)."""

import math
from typing import BinaryIO, Final

from user_service.avatars.formats.excerpt import Part
from user_service.avatars.formats.header import BrokenHeader, Header, read_exactly

START_OF_IMAGE: Final = b"\xff\xd8"
START_OF_SCAN: Final = b"\xff\xda"
MOST_SEGMENTS: Final = 1000  # a profile or a note of megabytes takes a hundred
MOST_FILL_BYTES: Final = 64  # before a marker (B.1.1.2); encoders that align segments write a few
MOST_TABLE_BYTES: Final = 2**16  # a picture needs three thousand
STANDALONE: Final = {0x01, *range(0xD0, 0xD9)}  # markers without a segment: TEM, RSTn, SOI
SOF0, SOF1, SOF2, DHT, SOS, DQT, DRI = 0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD
# Frames of other kinds (lossless, arithmetic, hierarchical) are shown by no browser.
FRAMES: Final = {SOF0, SOF1, SOF2}
OTHER_FRAMES: Final = {*range(0xC3, 0xD0)} - {DHT, 0xC8, 0xCC}
JFIF, EXIF, ICC, ADOBE = (0xE0, b"JFIF\0"), (0xE1, b"Exif\0\0"), (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe")
COEFFICIENTS: Final = 64  # of a block of 8 by 8 pixels, each of two bytes
A_SCAN: Final = 10_000  # what beginning one costs, in coefficients


def read_header(file: BinaryIO, side: int = 1024) -> Header:
    """`side`: the decoder scales what is larger down to about that, by up to eight, as it decodes."""
    parts: list[Part] = [START_OF_IMAGE]
    frame, progressive, exif = b"", False, b""
    profile: dict[int, bytes] = {}
    tables = 0
    file.seek(len(START_OF_IMAGE))
    for _ in range(MOST_SEGMENTS):
        begin = file.tell()
        marker = _next_marker(file)
        if marker in STANDALONE:
            continue
        body = read_exactly(file, _segment_length(file))
        if marker in OTHER_FRAMES or (marker in FRAMES and frame):
            raise BrokenHeader
        if marker in FRAMES:
            frame, progressive = body, marker == SOF2
        if marker == SOS:
            parts.append(range(begin, _size(file)))
            scans = 1 + _count_scans(file)
            return _header(frame, body, scans, progressive, side, parts, exif, _joined(profile))
        if marker in {*FRAMES, DHT, DQT, DRI} or _is(JFIF, marker, body) or _is(ADOBE, marker, body):
            parts.append(range(begin, file.tell()))
            tables += len(body)
        elif _is(EXIF, marker, body):
            exif = exif or body[len(EXIF[1]) :]
        elif _is(ICC, marker, body) and len(body) > len(ICC[1]) + 2:
            profile[body[len(ICC[1])]] = body[len(ICC[1]) + 2 :]
        if tables > MOST_TABLE_BYTES:
            raise BrokenHeader
    raise BrokenHeader


def _header(
    frame: bytes,
    scan: bytes,
    scans: int,
    progressive: bool,
    side: int,
    parts: list[Part],
    exif: bytes,
    profile: bytes,
) -> Header:
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5] or not scan:
        raise BrokenHeader
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    sampling = [(frame[at] >> 4, frame[at] & 15) for at in range(7, len(frame), 3)]
    if not width or not height or any(not 1 <= factor <= 4 for pair in sampling for factor in pair):
        raise BrokenHeader
    coefficients = _blocks(width, height, sampling) * COEFFICIENTS
    draft = _draft(width, height, side)
    scale = next((s for s in (8, 4, 2) if min(width // draft[0], height // draft[1]) >= s), 1)
    held = math.ceil(width / scale) * math.ceil(height / scale) * (1 if len(sampling) == 1 else 4)
    work = 0
    # A decoder goes over a picture once, in rows, only if its first scan holds every component to the last bit.
    # Else it keeps all the coefficients, whatever the scale, and goes over them with each scan.
    if progressive or scan[0] != len(sampling):
        held += 2 * coefficients
        work = scans * (coefficients + A_SCAN)
    return Header("JPEG", (width, height), held, parts, work, draft, exif, profile)


def _draft(width: int, height: int, side: int) -> tuple[int, int]:
    """In the picture's own proportions: Pillow scales by the side that allows less."""
    ratio = max(1.0, max(width, height) / side)
    return max(1, int(width / ratio)), max(1, int(height / ratio))


def _blocks(width: int, height: int, sampling: list[tuple[int, int]]) -> int:
    """Blocks of all components, each filled up to the size of an MCU (T.81, A.2)."""
    across, down = max(pair[0] for pair in sampling), max(pair[1] for pair in sampling)
    mcus = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
    return mcus * sum(horizontal * vertical for horizontal, vertical in sampling)


def _is(kind: tuple[int, bytes], marker: int, body: bytes) -> bool:
    return marker == kind[0] and body.startswith(kind[1])


def _joined(profile: dict[int, bytes]) -> bytes:
    """A profile in numbered pieces (ICC.1, annex B.4)."""
    return b"".join(profile[number] for number in sorted(profile))


def _next_marker(file: BinaryIO) -> int:
    if file.read(1) != b"\xff":
        raise BrokenHeader
    for _ in range(MOST_FILL_BYTES):
        if (byte := read_exactly(file, 1)) != b"\xff":
            return byte[0]
    raise BrokenHeader


def _segment_length(file: BinaryIO) -> int:
    length = int.from_bytes(file.read(2), "big")
    if length < 2:
        raise BrokenHeader
    return length - 2


def _size(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


def _count_scans(file: BinaryIO) -> int:
    # In entropy-coded data the marker's two bytes never stand together: a plain search misses none.
    found, last = 0, b""
    while piece := file.read(256 * 1024):
        found += (last + piece).count(START_OF_SCAN)
        last = piece[-1:]
    return found
