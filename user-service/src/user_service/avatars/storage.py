"""Where pictures are kept: a few bytes under a person and a name. A volume, or anything with these verbs.

A name is used once and its content never changes, so nothing here needs a lock: who replaces a picture
writes a new name, points the row to it, and removes the old name afterwards.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from uuid import UUID

from user_service.avatars.exceptions import AvatarsUnavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def on_volume(work: Callable[..., T], *arguments: object) -> T:
    """Off the event loop; what the file system refuses, or is too full for, is a 503."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        logger.error("the avatars' volume failed: %s", error.strerror)
        raise AvatarsUnavailable(headers={"Retry-After": "10"}) from error


def open_nameless(folder: Path) -> BinaryIO:
    """A file that is gone when it is closed, or with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


class AvatarStorage(Protocol):
    """Its methods block: they are never called on the event loop."""

    def put(self, person: UUID, name: str, content: bytes) -> None:
        """Durable when it returns."""

    def get(self, person: UUID, name: str) -> bytes | None: ...

    def remove(self, person: UUID, name: str | None = None) -> None:
        """One picture or, without a name, everything of a person. Removing what is not there is no error."""


class Volume:
    """Folders on a local volume: `<last two of the id>/<id>/<name>`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, person: UUID, name: str, content: bytes) -> None:
        folder = self._folder(person)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{secrets.token_hex(8)}"
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        # The name is durable once its folder is, and a new folder once its parents are.
        for parent in (folder, folder.parent, self._root):
            _fsync_folder(parent)

    def get(self, person: UUID, name: str) -> bytes | None:
        try:
            return (self._folder(person) / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, person: UUID, name: str | None = None) -> None:
        with contextlib.suppress(FileNotFoundError):
            if name is None:
                shutil.rmtree(self._folder(person))
            else:
                (self._folder(person) / name).unlink()

    def _folder(self, person: UUID) -> Path:
        # The last two digits are random; the first ones of a UUIDv7 are a clock.
        return self._root / person.hex[-2:] / str(person)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
