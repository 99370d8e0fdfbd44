"""Every query against the waiting mails, the mailed links and the changes of address."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from user_service.mails.models import (
    LIFETIME,
    UNDO_FOR,
    AddressChange,
    AddressChangeRow,
    ClaimedMail,
    Link,
    LinkKind,
    LinkRow,
    MailRow,
    WaitingMail,
)
from user_service.users.models import User


async def add_mail(connection: AsyncConnection, mail: WaitingMail, at: datetime) -> None:
    await connection.execute(
        insert(MailRow).values(
            kind=mail.kind,
            user_id=mail.user_id,
            email=mail.email,
            email_key=mail.email_key,
            sessions_cv=mail.sessions_cv,
            data=mail.data,
            created_at=at,
            next_attempt_at=at,
        )
    )


async def due_mails(connection: AsyncConnection, at: datetime, limit: int) -> Sequence[tuple[int, datetime]]:
    """Ids, with the time for which each was due."""
    rows = await connection.execute(
        select(MailRow.id, MailRow.next_attempt_at)
        .where(MailRow.next_attempt_at <= at)
        .order_by(MailRow.next_attempt_at)
        .limit(limit)
    )
    return [(row.id, row.next_attempt_at) for row in rows]


async def claim_mail(
    connection: AsyncConnection, mail_id: int, due: datetime, next_attempt_at: datetime
) -> ClaimedMail | None:
    """Move the next attempt ahead; who moved it sends. None when somebody else did.

    So no lock is held while sending, and the mail of a sender that died is tried again.
    """
    moved = await connection.execute(
        update(MailRow)
        .where(MailRow.id == mail_id, MailRow.next_attempt_at == due)
        .values(next_attempt_at=next_attempt_at, attempts=MailRow.attempts + 1)
    )
    if moved.rowcount != 1:
        return None
    row = (
        await connection.execute(
            select(
                MailRow.attempts,
                MailRow.created_at,
                MailRow.kind,
                MailRow.user_id,
                MailRow.email,
                MailRow.email_key,
                MailRow.sessions_cv,
                MailRow.data,
            ).where(MailRow.id == mail_id)
        )
    ).one()
    return ClaimedMail(mail_id, row.attempts, row.created_at, WaitingMail(*row[2:]))


async def remove_mail(connection: AsyncConnection, mail_id: int) -> None:
    await connection.execute(delete(MailRow).where(MailRow.id == mail_id))


async def postpone_mail(connection: AsyncConnection, mail_id: int, until: datetime) -> None:
    await connection.execute(update(MailRow).where(MailRow.id == mail_id).values(next_attempt_at=until))


async def add_link(
    connection: AsyncConnection, token: str, mail: WaitingMail, kind: LinkKind, at: datetime
) -> None:
    await connection.execute(
        insert(LinkRow).values(
            digest=_digest(token),
            kind=kind,
            user_id=mail.user_id,
            email=mail.email,
            email_key=mail.email_key,
            sessions_cv=mail.sessions_cv,
            data=mail.data,
            created_at=at,
            expires_at=at + LIFETIME[kind],
        )
    )


async def good_links_since(
    connection: AsyncConnection, mail: WaitingMail, kind: LinkKind, since: datetime, now: datetime
) -> int:
    """How many were made for the mail's address since then and are good."""
    query = (
        select(func.count())
        .select_from(LinkRow)
        .where(LinkRow.email_key == mail.email_key, LinkRow.created_at > since, LinkRow.kind == kind)
        .where(LinkRow.expires_at > now)
    )
    if mail.sessions_cv is not None:
        # The person's links end with their sessions.
        query = query.where(or_(LinkRow.user_id != mail.user_id, LinkRow.sessions_cv == mail.sessions_cv))
    return (await connection.execute(query)).scalar_one()


async def find_link(connection: AsyncConnection, token: str) -> Link | None:
    row = (
        await connection.execute(
            select(
                LinkRow.kind,
                LinkRow.user_id,
                LinkRow.email,
                LinkRow.email_key,
                LinkRow.sessions_cv,
                LinkRow.data,
                LinkRow.expires_at,
                LinkRow.used_at,
            ).where(LinkRow.digest == _digest(token))
        )
    ).one_or_none()
    return Link(LinkKind(row.kind), *row[1:]) if row else None


async def use_link(connection: AsyncConnection, token: str, at: datetime) -> bool:
    """Mark the link used; False when it was already. Of two at once the database lets one through."""
    used = await connection.execute(
        update(LinkRow)
        .where(LinkRow.digest == _digest(token), LinkRow.used_at.is_(None))
        .values(used_at=at, data=None)
    )
    return used.rowcount == 1


async def followed_link(
    connection: AsyncConnection, email_key: str, token: str | None, since: datetime
) -> str | None:
    """What names the link that was followed last since then, of those mailed to the address, or of that token."""
    query = (
        select(LinkRow.digest)
        .where(LinkRow.email_key == email_key, LinkRow.used_at > since)
        .order_by(LinkRow.used_at.desc())
        .limit(1)
    )
    if token is not None:
        query = query.where(LinkRow.digest == _digest(token))
    digest: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    return digest.hex()[:32] if digest else None


async def add_address_change(connection: AsyncConnection, user: User, at: datetime) -> int:
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


async def find_address_change(connection: AsyncConnection, change_id: int) -> AddressChange | None:
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


async def close_address_changes(connection: AsyncConnection, user_id: UUID, first: int) -> None:
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


async def forget_person(connection: AsyncConnection, user_id: UUID, email_key: str) -> None:
    """Everything here about an erased person; what was asked for by address alone included."""
    for table in (MailRow, LinkRow):
        await connection.execute(
            delete(table).where(or_(table.user_id == user_id, table.email_key == email_key))
        )
    await connection.execute(delete(AddressChangeRow).where(AddressChangeRow.user_id == user_id))


async def forget_links(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await _forget(connection, LinkRow.digest, LinkRow.expires_at < before, limit)


async def forget_address_changes(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await _forget(connection, AddressChangeRow.id, AddressChangeRow.undo_until < before, limit)


async def forget_unsent(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await _forget(connection, MailRow.id, MailRow.created_at < before, limit)


async def _forget(
    connection: AsyncConnection, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int
) -> int:
    """Remove at most `limit` old rows by their keys, so that no others are locked; how many went."""
    keys = (await connection.execute(select(key).where(old).limit(limit))).scalars().all()
    if keys:
        await connection.execute(delete(key.class_).where(key.in_(keys)))
    return len(keys)


def _digest(token: str) -> bytes:
    # 256 random bits need no salt and no slow hash.
    return hashlib.sha256(token.encode()).digest()
