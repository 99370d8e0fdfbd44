"""Every query against the audit table: rows are added and pseudonymised, never otherwise changed."""

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Case, case, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from user_service.audit.models import AuditContext, AuditRow, Record
from user_service.pagination import CursorInvalid, Page, decode_cursor, encode_cursor

T = TypeVar("T")

_MOST_IN_AN_HOUR: Final = 10_100  # rows about one person: CHANGES_PER_HOUR at its highest, and some
_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)  # what a BIGINT holds


async def append(
    connection: AsyncConnection,
    context: AuditContext,
    action: str,
    subject_id: UUID,
    at: datetime,
    **details: Any,
) -> None:
    """Write who did what to whom. `details` name fields and counts, never a personal value."""
    await connection.execute(
        insert(AuditRow).values(
            subject_id=subject_id,
            actor=context.actor,
            action=action,
            details=details,
            address=context.address,
            request_id=context.request_id,
            at=at,
        )
    )


async def nth_latest(
    connection: AsyncConnection, person: UUID, number: int, actions: Collection[str]
) -> datetime | None:
    """When the person did one of these for the `number`th time from now back; None if that is long ago."""
    # Rows of other actions stand between them: an hour of those is read, not years.
    latest = (
        select(AuditRow.id, AuditRow.actor, AuditRow.action, AuditRow.at)
        .where(AuditRow.subject_id == person)
        .order_by(AuditRow.id.desc())
        .limit(_MOST_IN_AN_HOUR)
        .subquery()
    )
    query = (
        select(latest.c.at)
        .where(latest.c.actor == str(person), latest.c.action.in_(sorted(actions)))
        .order_by(latest.c.id.desc())
        .offset(number - 1)
        .limit(1)
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def page(connection: AsyncConnection, subject_id: UUID, limit: int, cursor: str | None) -> Page[Record]:
    """What was done to one person, newest first."""
    query = (
        select(
            AuditRow.id,
            AuditRow.action,
            AuditRow.actor,
            AuditRow.details,
            AuditRow.address,
            AuditRow.request_id,
            AuditRow.at,
        )
        .where(AuditRow.subject_id == subject_id)
        .order_by(AuditRow.id.desc())
        .limit(limit + 1)
    )
    if cursor:
        query = query.where(AuditRow.id < _record_id(cursor))
    records = [Record(*row) for row in await connection.execute(query)]
    more = len(records) > limit
    return Page(records[:limit], encode_cursor(str(records[limit - 1].id)) if more else None)


async def pseudonymise(connection: AsyncConnection, user_id: UUID, nobody: UUID, limit: int) -> int:
    """Name `nobody` instead of a person, and drop the addresses they came from; in how many rows, at most `limit`."""
    person = str(user_id)
    ids = [
        *(await connection.scalars(select(AuditRow.id).where(AuditRow.subject_id == user_id).limit(limit))),
        *(await connection.scalars(select(AuditRow.id).where(AuditRow.actor == person).limit(limit))),
    ][:limit]
    if ids:
        await connection.execute(
            update(AuditRow)
            .where(AuditRow.id.in_(ids))
            # In this order: MySQL reads what it has just set.
            .ordered_values(
                (
                    AuditRow.address,
                    case((AuditRow.actor.in_([person, "anonymous"]), None), else_=AuditRow.address),
                ),
                (AuditRow.subject_id, _replaced(AuditRow.subject_id, user_id, nobody)),
                (AuditRow.actor, _replaced(AuditRow.actor, person, str(nobody))),
            )
        )
    return len(ids)


def _replaced(column: InstrumentedAttribute[T], old: T, new: T) -> Case[T]:
    return case((column == old, literal(new, column.type)), else_=column)


def _record_id(cursor: str) -> int:
    position = decode_cursor(cursor, 1)[0]
    if not _ID.fullmatch(position):
        raise CursorInvalid
    return int(position)
