"""GIF (GIF89a). Of a moving one the first frame."""

from typing import BinaryIO, Final

from user_service.avatars.formats.excerpt import Part
from user_service.avatars.formats.header import BrokenHeader, Header, read_exactly

MOST_BLOCKS: Final = 20_000  # before the first frame; each costs a microsecond
# A palette's index, RGBA, and RGBA once more while it is scaled.
HELD_PER_PIXEL: Final = 9
TABLE, TRANSPARENT = 0x80, 0x01
GRAPHIC_CONTROL: Final = 0xF9


def read_header(file: BinaryIO) -> Header:
    file.seek(0)
    screen = read_exactly(file, 13)
    if screen[10] & TABLE:
        read_exactly(file, 3 << (screen[10] & 7) + 1)
    parts: list[Part] = [range(file.tell())]
    control = b""
    blocks = 0
    while (introducer := file.read(1)) != b",":
        if introducer != b"!":
            raise BrokenHeader
        label = read_exactly(file, 1)[0]
        first = b""
        while size := read_exactly(file, 1)[0]:
            block = read_exactly(file, size)
            first = first or block
            blocks += 1
            if blocks > MOST_BLOCKS:
                raise BrokenHeader
        blocks += 1
        if label == GRAPHIC_CONTROL and len(first) == 4:
            # Without its disposal, which is about the next frame: for that Pillow fills a picture as it opens the file.
            control = bytes([0x21, GRAPHIC_CONTROL, 4, first[0] & TRANSPARENT, 0, 0, first[3], 0])
    begin = file.tell() - 1
    frame = read_exactly(file, 9)
    left, top, width, height = (_number(frame, at) for at in (0, 2, 4, 6))
    whole = max(left + width, _number(screen, 6)), max(top + height, _number(screen, 8))
    parts += [control, range(begin, file.seek(0, 2))]
    return Header("GIF", whole, whole[0] * whole[1] * HELD_PER_PIXEL, parts)


def _number(piece: bytes, at: int) -> int:
    return int.from_bytes(piece[at : at + 2], "little")
