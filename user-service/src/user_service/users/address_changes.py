"""Addresses that people left: each stays reserved while its person may still take it back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import delete_batch
from user_service.users.exceptions import EmailTaken
from user_service.users.models import UNDO_FOR, AddressChange, AddressChangeRow, User


async def add(connection: AsyncConnection, user: User, at: datetime) -> int:
    """Keep the address that `user` is about to leave; returns what undoes it."""
    added = await connection.execute(
        insert(AddressChangeRow).values(
            user_id=user.id,
            old_email=user.email,
            old_email_key=user.email_key,
            changed_at=at,
            undo_until=at + UNDO_FOR,
        )
    )
    assert added.inserted_primary_key is not None
    return int(added.inserted_primary_key[0])


async def find(connection: AsyncConnection, change_id: int) -> AddressChange | None:
    row = (
        await connection.execute(
            select(
                AddressChangeRow.id,
                AddressChangeRow.user_id,
                AddressChangeRow.old_email,
                AddressChangeRow.old_email_key,
                AddressChangeRow.undo_until,
            ).where(AddressChangeRow.id == change_id)
        )
    ).one_or_none()
    return AddressChange(*row) if row else None


async def close(connection: AsyncConnection, user_id: UUID, first: int) -> None:
    """Undone is this change with every later one: none of those addresses can claim the account again."""
    await connection.execute(
        delete(AddressChangeRow).where(AddressChangeRow.user_id == user_id, AddressChangeRow.id >= first)
    )


async def reserved(
    connection: AsyncConnection, email_key: str, at: datetime, *, besides: UUID | None = None
) -> bool:
    """Whether somebody else may still take this address back."""
    query = select(AddressChangeRow.id).where(
        AddressChangeRow.old_email_key == email_key, AddressChangeRow.undo_until > at
    )
    if besides is not None:
        query = query.where(AddressChangeRow.user_id != besides)
    return (await connection.execute(query.limit(1))).first() is not None


async def refuse_reserved(connection: AsyncConnection, user: User) -> None:
    """Raise EmailTaken if somebody else may still take this address back.

    Asked once the unique key has let `user` in: a change that freed the address has then been committed.
    """
    if await reserved(connection, user.email_key, user.updated_at, besides=user.id):
        raise EmailTaken


async def forget_person(connection: AsyncConnection, user_id: UUID) -> None:
    await connection.execute(delete(AddressChangeRow).where(AddressChangeRow.user_id == user_id))


async def forget_ended(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await delete_batch(connection, AddressChangeRow.id, AddressChangeRow.undo_until < before, limit)
