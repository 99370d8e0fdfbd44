"""Any picture in, one small WebP out: decoded at a bounded cost and encoded anew.

So nothing but pixels survives: no script, no place, no camera. Everything here blocks and runs in a thread.
"""

import io
import struct
from typing import BinaryIO, Final

from PIL import Image

from user_service.avatars.colours import to_srgb
from user_service.avatars.formats import read_header
from user_service.avatars.formats.excerpt import Excerpt
from user_service.avatars.formats.header import MOST_PROFILE_BYTES, BrokenHeader, Header
from user_service.avatars.orientation import upright

MEDIA_TYPE: Final = "image/webp"
SIDE: Final = 512
BUFFER: Final = 64 * 1024

# What decoding one picture may hold: 16 million pixels of a PNG or GIF, 9 of a WebP. An ordinary JPEG is decoded
# straight to a fraction of its size, so that the photo of any telephone passes.
MOST_HELD: Final = 144_000_000
MOST_PIXELS: Final = 256_000_000  # of a JPEG that is decoded to a fraction
MOST_WORK: Final = 1_000_000_000  # coefficients, those of each scan: half a second

# Pillow's own guard would only warn on the way to its limit. Ours stands before every decoder.
Image.MAX_IMAGE_PIXELS = None


# What a header that means nothing raises, and Pillow for a file that begins well and goes on badly.
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, struct.error, BrokenHeader)


class UnreadablePicture(Exception):
    """Not a JPEG, PNG, WebP or GIF, or broken."""


class TooManyPixels(Exception):
    """Would cost too much to decode; refused before decoding."""


def reencode(file: BinaryIO) -> bytes:
    """Raises UnreadablePicture or TooManyPixels. Of a moving picture the first frame is taken."""
    return decode(file, read_bounded_header(file))


def read_bounded_header(file: BinaryIO) -> Header:
    """Of a picture that may be decoded. Raises UnreadablePicture or TooManyPixels."""
    try:
        header = read_header(file)
    except _BROKEN as error:
        raise UnreadablePicture from error
    if header.held > MOST_HELD or header.work > MOST_WORK or header.pixels > MOST_PIXELS:
        raise TooManyPixels
    return header


def decode(file: BinaryIO, header: Header) -> bytes:
    """Raises UnreadablePicture."""
    try:
        parts = io.BufferedReader(Excerpt(file, header.parts), BUFFER)
        with Image.open(parts, formats=(header.format,)) as picture:
            if picture.size != header.size or (picture.mode == "P" and picture.palette is None):
                raise UnreadablePicture
            return _encode(_upright_in_srgb(picture, header))
    except _BROKEN as error:
        raise UnreadablePicture from error


def _upright_in_srgb(picture: Image.Image, header: Header) -> Image.Image:
    """Small first: turning and colours then cost the same for every picture."""
    exif = header.exif or picture.info.get("exif", b"")
    profile = header.profile or picture.info.get("icc_profile", b"")
    small = upright(_scaled(picture, header.draft), exif)
    alpha = small.getchannel("A") if small.mode in ("LA", "RGBA") else None
    colours = to_srgb(small.convert(small.mode.removesuffix("A")), profile[:MOST_PROFILE_BYTES])
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _scaled(picture: Image.Image, draft: tuple[int, int] | None) -> Image.Image:
    """Within SIDE by SIDE, in L, LA, RGB, RGBA or CMYK."""
    if draft:
        picture.draft(None, draft)
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    elif picture.mode in ("1", "P") or "transparency" in picture.info:
        colours = "RGB" if picture.mode in ("P", "RGB") else "L"
        picture = picture.convert(f"{colours}A" if picture.has_transparency_data else colours)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits, scaled: Pillow would cut it off at 255."""
    wide = picture.convert("I")
    grey = wide.point([(value * 255 + 32767) // 65535 for value in range(65536)], "L")
    if "transparency" not in picture.info:
        return grey
    alpha = wide.point([255 * (value != picture.info["transparency"]) for value in range(65536)], "L")
    del wide
    return Image.merge("LA", (grey, alpha))


def _encode(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    # Pillow would carry these three over from the original.
    picture.save(out, "WEBP", quality=85, method=4, exif=b"", xmp=b"", icc_profile=b"")
    return out.getvalue()
