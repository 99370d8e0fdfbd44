"""Every query against the outbox."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.events.models import Event, OutboxRow

_OLDEST = (
    select(
        OutboxRow.id,
        OutboxRow.type,
        OutboxRow.user_id,
        OutboxRow.credentials_version,
        OutboxRow.sessions_cv,
        OutboxRow.at,
        OutboxRow.request_id,
    )
    .order_by(OutboxRow.id)
    .limit(bindparam("most"))
)


async def add(
    connection: AsyncConnection,
    kind: str,
    *,
    user_id: UUID,
    credentials_version: int,
    sessions_cv: int,
    at: datetime,
    request_id: str | None,
) -> None:
    """Write an event. The caller holds the user's row lock, so ids are in commit order per person."""
    await connection.execute(
        insert(OutboxRow).values(
            type=kind,
            user_id=user_id,
            credentials_version=credentials_version,
            sessions_cv=sessions_cv,
            at=at,
            request_id=request_id,
        )
    )


async def oldest(connection: AsyncConnection, limit: int) -> list[Event]:
    return [Event(*row) for row in await connection.execute(_OLDEST, {"most": limit})]


async def remove(connection: AsyncConnection, ids: Sequence[int]) -> None:
    await connection.execute(delete(OutboxRow).where(OutboxRow.id.in_(ids)))


async def newest_id(connection: AsyncConnection) -> int:
    return (await connection.execute(select(func.max(OutboxRow.id)))).scalar() or 0
