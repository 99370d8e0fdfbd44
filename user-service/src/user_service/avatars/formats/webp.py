"""WebP (RFC 9649). Of a moving one the first frame."""

from typing import BinaryIO, Final

from user_service.avatars.formats.header import BrokenHeader, Header, read_exactly

# The decoder holds the canvas twice, Pillow a copy of it and the picture, each in 4 bytes; one more while it is scaled.
HELD_PER_PIXEL: Final = 16


def read_header(file: BinaryIO) -> Header:
    """The size of the canvas (sections 2.5 to 2.7), which Pillow's decoder allocates as it opens the file."""
    file.seek(0)
    head = read_exactly(file, 30)
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
    size = file.seek(0, 2)
    return Header("WEBP", (width, height), width * height * HELD_PER_PIXEL + 2 * size, [range(size)])
