"""From a picture's own colours to those that every screen shows (sRGB)."""

import io
from typing import Final

from PIL import Image, ImageCms

CLASSES: Final = {b"mntr", b"scnr", b"prtr", b"spac"}
MODES: Final = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}
SRGB: Final = ImageCms.createProfile("sRGB")
MOST_TAGS: Final = 100


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """A picture in L, RGB or CMYK as RGB; a profile that is broken, or of another kind of colours, is ignored."""
    if _usable(profile, picture.mode):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = ImageCms.buildTransform(source, SRGB, picture.mode, "RGB")
            return ImageCms.applyTransform(picture, transform) or picture.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # shown without it, as browsers do
    return picture.convert("RGB")


def _usable(profile: bytes, mode: str) -> bool:
    """ICC.1:2022, 7.2 and 7.3."""
    if len(profile) < 132 or profile[12:16] not in CLASSES or MODES.get(profile[16:20]) != mode:
        return False
    count = int.from_bytes(profile[128:132], "big")
    tags = {profile[at : at + 4] for at in range(132, 132 + 12 * min(count, MOST_TAGS), 12)}
    # Elements in any number, one after the other for each colour, would take as long as their author likes.
    return count <= MOST_TAGS and not any(tag.startswith(b"D2B") for tag in tags)
