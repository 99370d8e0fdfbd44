"""Every query against the mailed links."""

import hashlib
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import delete_batch
from user_service.mail.models import LIFETIME, Link, LinkKind, LinkRow, WaitingMail


async def add(
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


async def good_since(
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


async def find(connection: AsyncConnection, token: str) -> Link | None:
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


async def use(connection: AsyncConnection, token: str, at: datetime) -> bool:
    """Mark the link used; False when it was already. Of two at once the database lets one through."""
    used = await connection.execute(
        update(LinkRow)
        .where(LinkRow.digest == _digest(token), LinkRow.used_at.is_(None))
        .values(used_at=at, data=None)
    )
    return used.rowcount == 1


async def followed(
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


async def forget_person(connection: AsyncConnection, user_id: UUID, email_key: str) -> None:
    """Those mailed to the person's address included."""
    await connection.execute(
        delete(LinkRow).where(or_(LinkRow.user_id == user_id, LinkRow.email_key == email_key))
    )


async def forget_expired(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await delete_batch(connection, LinkRow.digest, LinkRow.expires_at < before, limit)


def _digest(token: str) -> bytes:
    # 256 random bits need no salt and no slow hash.
    return hashlib.sha256(token.encode()).digest()
