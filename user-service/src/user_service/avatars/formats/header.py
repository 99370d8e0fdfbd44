"""What is known of a picture before any decoder sees it."""

from dataclasses import dataclass
from typing import BinaryIO, Final

from user_service.avatars.formats.excerpt import Part

# The profiles of printers are the largest: two or three megabytes.
MOST_PROFILE_BYTES: Final = 4 * 2**20
MOST_EXIF_BYTES: Final = 2**16  # the largest that fits into a JPEG's segment


class BrokenHeader(Exception):
    """The file ends, or means nothing, before its picture begins."""


@dataclass(frozen=True, slots=True)
class Header:
    """`held` is the number of bytes that decoding and scaling hold at once; `work` counts decoded coefficients.

    A decoder gets `parts` alone: of everything else in a file, a library's reader of metadata is what a hostile
    file is written for.
    """

    format: str  # as Pillow calls its plug-in
    size: tuple[int, int]
    held: int
    parts: list[Part]
    work: int = 0
    draft: tuple[int, int] | None = None
    exif: bytes = b""
    profile: bytes = b""

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def seconds(self) -> float:
        """About how long a processor takes to decode it: as measured, on the safe side for what is large."""
        return (self.work + 4 * (self.pixels + self.held)) / 2e9


def read_exactly(file: BinaryIO, size: int) -> bytes:
    piece = file.read(size)
    if len(piece) != size:
        raise BrokenHeader
    return piece
