"""Pictures and colour profiles made by hand, byte by byte: what no encoder would write."""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    *before: bytes,
    depth: int = 8,
    colours: int = 2,
    interlaced: bool = False,
    rows: Iterable[bytes] = (),
) -> bytes:
    """`rows` are its pixels; without any, none are there."""
    packed = zlib.compressobj()
    pixels = b"".join(packed.compress(b"\0" + row) for row in rows) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", head), *before, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def black_rows(
    width: int, height: int, depth: int, colours: int, *, interlaced: bool = False
) -> Iterator[bytes]:
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        bits = -(-(width - left) // across) * CHANNELS[colours] * depth
        yield from itertools.repeat(bytes(-(-bits // 8)), -(-(height - top) // down))


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


# One code of one bit in each Huffman table: a scan of zeros is a grey picture.
TABLES = b"".join(
    segment(0xC4, bytes([kind]) + b"\x01" + bytes(15) + meaning)
    for kind, meaning in ((0, b"\0"), (0x10, b"\0"))
)
ALL_ZEROS_TO_COME = segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")  # for the next 16,384 blocks at once


def jpeg(
    width: int, height: int, *, frame: int = 0xC0, components: int = 3, scans: int = 1, before: bytes = b""
) -> bytes:
    """A grey picture of any kind of frame. Each further scan goes over all blocks of one component again."""
    progressive = frame in (0xC2, 0xCA)
    blocks = -(-width // 8) * -(-height // 8)
    layers = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    parts = [
        b"\xff\xd8",
        before,
        segment(0xDB, b"\0" + b"\x01" * 64),
        TABLES,
        segment(frame, struct.pack(">BHHB", 8, height, width, components) + layers),
        scan(range(1, components + 1), 0, 0 if progressive else 63),
        bytes(blocks * components * (1 if progressive else 2) // 8 + 2),
        ALL_ZEROS_TO_COME if scans > 1 else b"",
    ]
    for number in range(scans - 1):
        parts += [scan([1 + number % components], 1, 63, 0x10), bytes((blocks // 16384 + 1) * 15 // 8 + 2)]
    return b"".join(parts) + b"\xff\xd9"


def scan(components: Iterable[int], first: int, last: int, bits: int = 0) -> bytes:
    listed = b"".join(bytes([number, 0]) for number in components)
    return segment(0xDA, bytes([len(listed) // 2]) + listed + bytes([first, last, bits]))


def gif(width: int, height: int, *before: bytes) -> bytes:
    screen = struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0"
    return b"GIF89a" + screen + b"".join(before) + frame + b"\x02\x02L\x01\0;"


def exif(orientation: int, *, order: str = "<") -> bytes:
    begin = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return begin + struct.pack(f"{order}HHHLHHL", 1, 0x0112, 3, 1, orientation, 0, 0)


def greedy_exif(size: int) -> bytes:
    """Each of its entries is nearly all of it."""
    entries = min(60_000, size // 20)
    listed = b"".join(struct.pack("<HHLL", 1000 + number, 7, size - 100, 8) for number in range(entries))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + listed).ljust(size, b"\0")


WHITE = (0.9642, 1.0, 0.8249)
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
LINEAR = b"curv" + bytes(8)


def profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2001-04."""
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">L", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">LL", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">L4xL4s4s4s12x4s", at + len(body), 0x02400000, kind, space, connection, b"acsp")
    return head.ljust(68, b"\0") + struct.pack(">lll", *map(_fixed, WHITE)).ljust(60, b"\0") + table + body


def grey_profile() -> bytes:
    """Half of the light is half of the value, unlike sRGB's."""
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(WHITE), b"kTRC": LINEAR})


def swapped_profile() -> bytes:
    """Its red is sRGB's green, and its green sRGB's red."""
    tags = {b"rXYZ": GREEN, b"gXYZ": RED, b"bXYZ": BLUE, b"wtpt": WHITE}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), LINEAR)
    return profile(b"mntr", b"RGB ", b"XYZ ", {**{name: _xyz(at) for name, at in tags.items()}, **curves})


def cmyk_profile(lightness: Callable[[float], float]) -> bytes:
    """Grey, as light as `lightness` says of the cyan (0 to 1)."""
    lab = b"".join(bytes([round(255 * lightness(cyan)), 128, 128]) * 8 for cyan in (0.0, 1.0))
    straight, matrix = bytes(range(256)), map(_fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = (
        b"mft1"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + struct.pack(">9l", *matrix)
        + straight * 4
        + lab
        + straight * 3
    )
    return profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(WHITE), b"A2B0": table})


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">lll", *map(_fixed, value))


def _fixed(value: float) -> int:
    return round(value * 65536)
