"""Every query against the avatars table."""

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.avatars.models import AvatarRow


@dataclass(frozen=True, slots=True)
class StoredAvatar:
    name: str
    etag: str
    size: int


async def find(connection: AsyncConnection, person: UUID) -> StoredAvatar | None:
    row = (
        await connection.execute(
            select(AvatarRow.name, AvatarRow.etag, AvatarRow.size).where(AvatarRow.user_id == person)
        )
    ).one_or_none()
    return StoredAvatar(*row) if row else None


async def save(
    connection: AsyncConnection, person: UUID, avatar: StoredAvatar, at: datetime, *, new: bool
) -> None:
    values = {**asdict(avatar), "updated_at": at}
    if new:
        await connection.execute(insert(AvatarRow).values(user_id=person, **values))
    else:
        await connection.execute(update(AvatarRow).where(AvatarRow.user_id == person).values(**values))


async def remove(connection: AsyncConnection, person: UUID) -> None:
    await connection.execute(delete(AvatarRow).where(AvatarRow.user_id == person))
