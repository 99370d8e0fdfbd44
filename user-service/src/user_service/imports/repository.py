"""Adding people by the hundred, and the ids that they had before."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit.models import AuditContext, AuditRow
from user_service.events.models import OutboxRow
from user_service.users import repository as users
from user_service.users.models import AddressChangeRow, User, UserRow, utc_now


async def taken(connection: AsyncConnection, people: Sequence[User]) -> tuple[set[str], set[str]]:
    """Which of their external ids and which of their addresses are here already."""
    ids = await connection.execute(
        select(UserRow.external_id).where(UserRow.external_id.in_([person.external_id for person in people]))
    )
    keys = [person.email_key for person in people]
    emails = await connection.execute(select(UserRow.email_key).where(UserRow.email_key.in_(keys)))
    reserved = await connection.execute(
        select(AddressChangeRow.old_email_key).where(
            AddressChangeRow.old_email_key.in_(keys), AddressChangeRow.undo_until > utc_now()
        )
    )
    return {str(found) for found in ids.scalars()}, {*emails.scalars(), *reserved.scalars()}


async def ids_after(connection: AsyncConnection, external_id: str, limit: int) -> list[tuple[str, UUID]]:
    """The next pairs of old and new id, in the order of the old ones as text."""
    pairs = await connection.execute(
        select(UserRow.external_id, UserRow.id)
        .where(UserRow.external_id > external_id)
        .order_by(UserRow.external_id)
        .limit(limit)
    )
    return [(str(old), new) for old, new in pairs]


async def add(connection: AsyncConnection, people: Sequence[User], context: AuditContext) -> None:
    """Insert all, each with its event and its audit record. IntegrityError if one came in meanwhile."""
    at = utc_now()
    await connection.execute(insert(UserRow), [users.row_of(person) for person in people])
    await connection.execute(
        insert(OutboxRow),
        [
            {
                "type": "user.created",
                "user_id": person.id,
                "credentials_version": person.credentials_version,
                "sessions_cv": person.sessions_cv,
                "at": at,
                "request_id": None,
            }
            for person in people
        ],
    )
    await connection.execute(
        insert(AuditRow),
        [
            {
                "subject_id": person.id,
                "actor": context.actor,
                "action": "user.created",
                "details": {"by": "import"},
                "at": at,
            }
            for person in people
        ],
    )
