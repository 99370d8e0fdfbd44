"""Every query against the waiting mails."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import delete_batch
from user_service.mail.models import ClaimedMail, MailRow, WaitingMail


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


async def forget_person(connection: AsyncConnection, user_id: UUID, email_key: str) -> None:
    """What was asked for by address alone included."""
    await connection.execute(
        delete(MailRow).where(or_(MailRow.user_id == user_id, MailRow.email_key == email_key))
    )


async def forget_unsent(connection: AsyncConnection, before: datetime, limit: int) -> int:
    return await delete_batch(connection, MailRow.id, MailRow.created_at < before, limit)
