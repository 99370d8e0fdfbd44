"""How a picture has to be turned to stand upright (Exif 3.0, tag 0x0112), and nothing else of its Exif."""

import struct
from typing import Final

from PIL.Image import Image, Transpose

ORIENTATION, SHORT = 0x0112, 3
TURNS: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def upright(picture: Image, exif: bytes) -> Image:
    turn = TURNS.get(_orientation(exif.removeprefix(b"Exif\0\0")))
    return picture.transpose(turn) if turn is not None else picture


def _orientation(exif: bytes) -> int:
    """0 if it says nothing, or nothing that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 0
    try:
        (directory,) = struct.unpack_from(f"{order}L", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHLH", exif, at)
            if (tag, kind) == (ORIENTATION, SHORT):
                return int(value)
    except struct.error:
        pass  # cut off
    return 0
