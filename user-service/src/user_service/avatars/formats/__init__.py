"""What each kind of picture costs to decode, and the parts of its file that a decoder needs."""

from typing import BinaryIO

from user_service.avatars.formats import gif, jpeg, png, webp
from user_service.avatars.formats.header import BrokenHeader, Header


def read_header(file: BinaryIO) -> Header:
    """Raises BrokenHeader, also for every kind of picture that is not taken."""
    file.seek(0)
    begin = file.read(12)
    if begin.startswith(jpeg.START_OF_IMAGE):
        return jpeg.read_header(file)
    if begin.startswith(png.SIGNATURE):
        return png.read_header(file)
    if begin.startswith((b"GIF87a", b"GIF89a")):
        return gif.read_header(file)
    if begin.startswith(b"RIFF") and begin.endswith(b"WEBP"):
        return webp.read_header(file)
    raise BrokenHeader
