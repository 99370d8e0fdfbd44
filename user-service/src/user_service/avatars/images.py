"""Any picture in, one small WebP out: decoded at a bounded cost and encoded anew.

So nothing but pixels survives: no script, no place, no camera. Everything here blocks and runs in a thread.
"""

import io
import struct
from typing import BinaryIO

from PIL import Image, ImageOps

from user_service.avatars.headers import BrokenHeader, jpeg_scans, webp_canvas

MEDIA_TYPE = "image/webp"
SIDE = 512
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

# 16 million pixels are 64 MiB while decoded. An ordinary JPEG is decoded straight to a fraction of its
# size, so that the photo of any telephone passes.
MAX_PIXELS = 16_000_000
MAX_PIXELS_WEBP = 8_000_000  # its decoder holds the canvas three times over
MAX_PIXELS_SCALED = 256_000_000
MAX_SCANS = 32  # of a progressive JPEG; encoders make about ten, and 30 bytes are enough for one

# Pillow's own guard would only warn on the way to its limit. Ours stands before every decoder.
Image.MAX_IMAGE_PIXELS = None


class UnreadablePicture(Exception):
    """Not one of FORMATS, or broken."""


class TooManyPixels(Exception):
    """Would cost too much to decode; refused before decoding."""


def reencode(file: BinaryIO) -> bytes:
    """Raises UnreadablePicture or TooManyPixels. Of a moving picture the first frame is taken."""
    try:
        _check(webp_canvas(file) or (0, 0), MAX_PIXELS_WEBP)
        scans = jpeg_scans(file)
        file.seek(0)
        with Image.open(file, formats=FORMATS) as picture:
            if scans:  # never by Pillow's name: it calls a JPEG that lists further pictures an MPO
                _bound_jpeg(picture, *scans)
            else:
                _check(picture.size, MAX_PIXELS)
            return _encode(picture)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, BrokenHeader) as error:
        # What Pillow raises for a file that begins well and goes on badly.
        raise UnreadablePicture from error


def _bound_jpeg(picture: Image.Image, scans: int, complete: bool) -> None:
    if scans > MAX_SCANS:
        raise TooManyPixels
    _check(picture.size, MAX_PIXELS_SCALED if complete and scans == 1 else MAX_PIXELS)
    picture.draft("RGB", (2 * SIDE, 2 * SIDE))


def _check(size: tuple[int, int], limit: int) -> None:
    if size[0] * size[1] > limit:
        raise TooManyPixels


def _encode(picture: Image.Image) -> bytes:
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    small = picture if picture.mode == mode else picture.convert(mode)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    ImageOps.exif_transpose(small, in_place=True)
    out = io.BytesIO()
    # Pillow would carry these three over from the original.
    small.save(out, "WEBP", quality=85, method=4, exif=b"", xmp=b"", icc_profile=b"")
    return out.getvalue()
