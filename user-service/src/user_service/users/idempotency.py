"""Idempotency-Key: the answer to a creating POST is stored with what it created, and given again."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import LOCK_WAIT_TIMEOUT, error_code
from user_service.users.exceptions import IdempotencyKeyInvalid, IdempotencyKeyReused, RequestInProgress
from user_service.users.models import IdempotencyRow


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """One creating POST, told apart from others by who sent it, where to, and its key."""

    caller: str
    route: str
    key: str
    fingerprint: bytes


class AlreadyStored(Exception):
    """The other request with this key committed while this one waited for it."""


def keyed_request(server_key: bytes, caller: str, route: str, key: str, body: bytes) -> KeyedRequest:
    """The fingerprint is an HMAC: the table must not be a place to guess passwords from."""
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise IdempotencyKeyInvalid
    return KeyedRequest(caller, route, key, hmac.digest(server_key, body, hashlib.sha256))


async def stored_response(connection: AsyncConnection, request: KeyedRequest) -> str | None:
    """The body answered before, None when there is none; IdempotencyKeyReused when it was another request."""
    row = (
        await connection.execute(
            select(IdempotencyRow.fingerprint, IdempotencyRow.body).where(*_identity(request))
        )
    ).one_or_none()
    if row is None:
        return None
    if not hmac.compare_digest(row.fingerprint, request.fingerprint):
        raise IdempotencyKeyReused
    body: str | None = row.body
    return body


async def claim(connection: AsyncConnection, request: KeyedRequest, at: datetime) -> None:
    """Take the key for this transaction; a second request with it waits here for the first one's end."""
    try:
        await connection.execute(
            insert(IdempotencyRow).values(
                caller=request.caller,
                route=request.route,
                key=request.key,
                fingerprint=request.fingerprint,
                created_at=at,
            )
        )
    except IntegrityError as error:
        raise AlreadyStored from error
    except OperationalError as error:
        if error_code(error) == LOCK_WAIT_TIMEOUT:
            raise RequestInProgress(headers={"Retry-After": "1"}) from error
        raise


async def store_response(
    connection: AsyncConnection, request: KeyedRequest, user_id: UUID, body: str
) -> None:
    await connection.execute(
        update(IdempotencyRow).where(*_identity(request)).values(body=body, user_id=user_id)
    )


async def forget_person(connection: AsyncConnection, user_id: UUID) -> None:
    await connection.execute(delete(IdempotencyRow).where(IdempotencyRow.user_id == user_id))


async def forget_before(connection: AsyncConnection, at: datetime, limit: int) -> int:
    """Drop old answers, a bounded number at a time; how many went."""
    old = (
        await connection.execute(
            select(IdempotencyRow.caller, IdempotencyRow.route, IdempotencyRow.key)
            .where(IdempotencyRow.created_at < at)
            .limit(limit)
        )
    ).all()
    if old:
        authenticator = tuple_(IdempotencyRow.caller, IdempotencyRow.route, IdempotencyRow.key)
        await connection.execute(delete(IdempotencyRow).where(authenticator.in_([tuple(row) for row in old])))
    return len(old)


def _identity(request: KeyedRequest) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyRow.caller == request.caller,
        IdempotencyRow.route == request.route,
        IdempotencyRow.key == request.key,
    )
