"""Putting, showing and removing the picture of a person."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.avatars import repository
from user_service.avatars.decoder import Decoder
from user_service.avatars.exceptions import (
    AvatarNotFound,
    AvatarTooManyPixels,
    AvatarUnsupported,
    UploadsAtOnce,
)
from user_service.avatars.images import TooManyPixels, UnreadablePicture
from user_service.avatars.repository import StoredAvatar
from user_service.avatars.storage import AvatarStorage, on_volume, open_nameless
from user_service.avatars.upload import Pace, UploadPlaces, spooled
from user_service.database import Database
from user_service.users import repository as users
from user_service.users.allowance import OWN_CHANGES, Allowance, TooManyChanges
from user_service.users.exceptions import UserNotFound
from user_service.users.models import utc_now

UPLOADS_OF_A_PERSON: Final = 2  # at once, from their first byte until they are kept
PACE: Final = Pace(idle_seconds=30.0, total_seconds=60.0)


@dataclass(frozen=True, slots=True)
class Avatar:
    etag: str
    content: bytes


class AvatarService:
    def __init__(
        self,
        database: Database,
        storage: AvatarStorage,
        spool: Path,
        most_bytes: int,
        when_done: Callable[[], None] = lambda: None,
        allowance: Allowance = OWN_CHANGES,
    ) -> None:
        """`when_done` is called whenever a picture was decoded, or could not be."""
        self._database = database
        self._storage = storage
        self._spool = spool
        self._most_bytes = most_bytes
        self._when_done = when_done
        self._allowance = allowance
        self._uploads = Counter[UUID]()
        self._places = UploadPlaces()
        self._decoder = Decoder()
        self._was_writable = False

    def close(self) -> None:
        self._decoder.close()

    async def check(self) -> str | None:
        """Why a service that starts is not ready. Once the folder could be written it is not asked about again: all
        replicas have the same volume, and whatever becomes of it, sign-ins and the rest are served without."""
        if not self._was_writable:
            try:
                await asyncio.to_thread(lambda: open_nameless(self._spool).close())
            except OSError as error:
                return f"the folder cannot be written: {error.strerror}"
            self._was_writable = True
        return None

    async def put(
        self, person: UUID, body: AsyncIterator[bytes], content_type: str, context: AuditContext
    ) -> str:
        """Read, re-encode and keep the picture; returns its ETag. No connection is held meanwhile."""
        with self._upload(person):
            self._decoder.shares.require(person)
            await self._database.read(self._allowance.require, context, person, utc_now())
            upload = spooled(body, content_type, self._most_bytes, self._spool, PACE, self._places)
            async with upload as file:
                content = await self._reencoded(person, file)
        digest = hashlib.sha256(content).hexdigest()
        if await self._has(person, digest):
            return digest
        avatar = StoredAvatar(f"{digest}-{secrets.token_hex(4)}.webp", digest, len(content))
        await on_volume(self._storage.put, person, avatar.name, content)
        try:
            before = await self._database.transaction(self._point_to, person, avatar, context)
        # Only here: after a lost COMMIT the row may well point to the file.
        except UserNotFound:
            await on_volume(self._storage.remove, person)
            raise
        except TooManyChanges:
            await on_volume(self._storage.remove, person, avatar.name)
            raise
        if before is not None:
            await on_volume(self._storage.remove, person, before.name)
        return digest

    async def get(self, person: UUID) -> Avatar:
        # Twice: the picture may be replaced between reading the row and reading the file.
        for _ in range(2):
            stored = await self._database.read(repository.find, person)
            if stored is None:
                break
            content = await on_volume(self._storage.get, person, stored.name)
            if content is not None:
                return Avatar(stored.etag, content)
        raise AvatarNotFound

    async def etag(self, person: UUID) -> str | None:
        stored = await self._database.read(repository.find, person)
        return stored.etag if stored else None

    async def remove(self, person: UUID, context: AuditContext) -> None:
        before = await self._database.transaction(self._forget, person, context)
        if before is not None:
            await on_volume(self._storage.remove, person, before.name)

    async def forget_files(self, person: UUID) -> None:
        """Before a person is erased; the row goes with theirs."""
        await asyncio.to_thread(self._storage.remove, person)

    @contextmanager
    def _upload(self, person: UUID) -> Iterator[None]:
        if self._uploads[person] >= UPLOADS_OF_A_PERSON:
            raise UploadsAtOnce(headers={"Retry-After": "5"})
        self._uploads[person] += 1
        try:
            yield
        finally:
            self._uploads[person] -= 1
            self._uploads += Counter()  # forgets who has none
            self._when_done()

    async def _reencoded(self, person: UUID, file: BinaryIO) -> bytes:
        try:
            return await self._decoder.reencode(person, file)
        except TooManyPixels as refused:
            raise AvatarTooManyPixels from refused
        except UnreadablePicture as refused:
            raise AvatarUnsupported from refused

    async def _has(self, person: UUID, digest: str) -> bool:
        """Whether this very picture is theirs already, and its file is there."""
        stored = await self._database.read(repository.find, person)
        if stored is None or stored.etag != digest:
            return False
        return await on_volume(self._storage.get, person, stored.name) is not None

    async def _point_to(
        self, connection: AsyncConnection, person: UUID, avatar: StoredAvatar, context: AuditContext
    ) -> StoredAvatar | None:
        """Under the person's lock, so that of two uploads at once the later one knows what it replaces."""
        await users.lock(connection, person)
        await self._allowance.require(connection, context, person, utc_now())
        before = await repository.find(connection, person)
        at = utc_now()
        await repository.save(connection, person, avatar, at, new=before is None)
        await audit.append(connection, context, "avatar.replaced", person, at)
        return before

    async def _forget(
        self, connection: AsyncConnection, person: UUID, context: AuditContext
    ) -> StoredAvatar | None:
        """Without a limit of its own: each time needs a picture that was put there."""
        await users.lock(connection, person)
        before = await repository.find(connection, person)
        if before is not None:
            await repository.remove(connection, person)
            await audit.append(connection, context, "avatar.removed", person, utc_now())
        return before
