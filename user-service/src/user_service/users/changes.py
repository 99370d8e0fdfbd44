"""One change of a person: row, event and audit record, in one transaction under the row's lock."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.events import repository as outbox
from user_service.users import repository
from user_service.users.models import User, utc_now


async def write(
    connection: AsyncConnection, context: AuditContext, before: User, after: User, kind: str, **details: Any
) -> User:
    """Save `after`, whose row is locked, as the next version; `kind` names the event and the audit record.

    No change, whatever door it came through, leaves the system without an active administrator.

    `details` go to the audit: names of fields, counts, roles; never a personal value.
    """
    if before.administers and not after.administers:
        await repository.require_another_administrator(connection, after.id)
    at = utc_now()
    after = replace(after, version=before.version + 1, updated_at=at)
    await repository.save(connection, before, after)
    await record(connection, context, after, kind, at, **details)
    return after


async def record(
    connection: AsyncConnection, context: AuditContext, user: User, kind: str, at: datetime, **details: Any
) -> None:
    """Write the event and the audit record of a change that is already in the row."""
    await outbox.add(
        connection,
        kind,
        user_id=user.id,
        credentials_version=user.credentials_version,
        sessions_cv=user.sessions_cv,
        at=at,
        request_id=context.request_id,
    )
    await audit.append(connection, context, kind, user.id, at, **details)
