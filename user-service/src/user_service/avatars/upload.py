"""A picture on its way in: read piece by piece, counted, and written to disk; never whole in memory."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from user_service.avatars.exceptions import AvatarsBusy, AvatarTooLarge, AvatarUnsupported, UploadStalled
from user_service.avatars.storage import on_volume, open_nameless

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PIECE = 256 * 1024
FORM_OVERHEAD = 16 * 1024  # boundaries, part headers and small fields beside the picture
MOST_PARTS = 100  # each costs the event loop microseconds, and a form of 5 MB could have a third of a million

PLACES = 64  # uploads that come at once to a worker; each has a file of AVATAR_MAX_BYTES at most
SAFE_SECONDS = 5.0  # for which an upload keeps its place, however many others want one


@dataclass(frozen=True, slots=True)
class Pace:
    """How many seconds an upload may stand still, and take in all."""

    idle_seconds: float
    total_seconds: float


class UploadPlaces:
    """Where uploads come; with none left, the upload that has been coming longest makes room for a new one.

    So nobody keeps others out with bodies that they never end, from however many accounts.
    """

    def __init__(self) -> None:
        self._coming: dict[asyncio.Timeout, float] = {}  # since when; the first has been coming longest

    @asynccontextmanager
    async def take(self, seconds: float) -> AsyncIterator[None]:
        """Raises AvatarsBusy at once, UploadStalled after so many seconds or when others need the place."""
        now = asyncio.get_running_loop().time()
        if len(self._coming) >= PLACES:
            self._make_room(now)
        deadline = asyncio.timeout(seconds)
        self._coming[deadline] = now
        try:
            async with deadline:
                yield
        except TimeoutError as stalled:
            raise UploadStalled from stalled
        finally:
            self._coming.pop(deadline, None)

    def _make_room(self, now: float) -> None:
        longest = next(iter(self._coming))
        if now - self._coming[longest] < SAFE_SECONDS:
            raise AvatarsBusy(headers={"Retry-After": "5"})
        del self._coming[longest]
        if not longest.expired():
            longest.reschedule(now)


@asynccontextmanager
async def spooled(
    body: AsyncIterator[bytes],
    content_type: str,
    limit: int,
    folder: Path,
    pace: Pace,
    places: UploadPlaces,
) -> AsyncIterator[BinaryIO]:
    """The picture in a nameless file, rewound; gone with the block, or with the process."""
    file = await on_volume(open_nameless, folder)
    try:
        async with places.take(pace.total_seconds):
            await _write(_picture(_paced(body, pace.idle_seconds), content_type, limit), file, limit)
            await on_volume(file.seek, 0, os.SEEK_SET)  # writes what was buffered
        yield file
    finally:
        with contextlib.suppress(OSError):  # a disk that is full says so again
            file.close()


async def _write(pieces: AsyncIterator[bytes], file: BinaryIO, limit: int) -> None:
    size, waiting = 0, bytearray()
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise AvatarTooLarge(detail=f"The limit is {limit} bytes.")
        waiting += piece
        if len(waiting) >= PIECE:
            await on_volume(file.write, bytes(waiting))
            waiting.clear()
    await on_volume(file.write, bytes(waiting))


async def _paced(body: AsyncIterator[bytes], idle_seconds: float) -> AsyncIterator[bytes]:
    """A slow body may take its time; one that stands still may not keep its file."""
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                piece = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError as stalled:
            raise UploadStalled from stalled
        yield piece


def _picture(body: AsyncIterator[bytes], content_type: str, limit: int) -> AsyncIterator[bytes]:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return body
    boundary = options.get(b"boundary")
    if not boundary:
        raise AvatarUnsupported(detail="The form has no boundary.")
    return _first_file(body, boundary, limit + FORM_OVERHEAD)


async def _first_file(body: AsyncIterator[bytes], boundary: bytes, limit: int) -> AsyncIterator[bytes]:
    """The content of the form's first file, whatever its field is called (RFC 7578)."""
    form = _FirstFile()
    size = 0
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for piece in body:
            size += len(piece)
            if size > limit:
                raise AvatarTooLarge(detail="The form is larger than the limit.")
            parser.write(piece)
            for content in form.taken():
                yield content
        parser.finalize()
    except FormParserError as error:
        raise AvatarUnsupported(detail="The form cannot be read.") from error
    if not form.complete:
        raise AvatarUnsupported(detail="The form holds no file, or ends within it.")


class _FirstFile:
    """Listens to the parser, and keeps what belongs to the first part that has a file name."""

    def __init__(self) -> None:
        self.complete = False
        self._inside = False
        self._name, self._value = b"", b""
        self._content: list[bytes] = []
        self._parts = 0

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
        }

    def taken(self) -> list[bytes]:
        content, self._content = self._content, []
        return content

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise FormParserError("too many parts")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition" and not self.complete:
            self._inside = b"filename" in parse_options_header(self._value)[1]
        self._name, self._value = b"", b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._content.append(data[start:end])

    def _on_part_end(self) -> None:
        self.complete = self.complete or self._inside
        self._inside = False
