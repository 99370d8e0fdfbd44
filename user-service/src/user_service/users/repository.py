"""Every query against the users table."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from user_service.pagination import CursorInvalid, Page, decode_cursor, encode_cursor
from user_service.users.email import email_key_prefix
from user_service.users.exceptions import EmailTaken, LastAdministrator, UserNotFound
from user_service.users.models import ADMIN, RoleRow, Status, User, UserRow, first_id, name_key

_ROLES = (
    select(func.group_concat(RoleRow.role))
    .where(RoleRow.user_id == UserRow.id)
    .correlate(UserRow)
    .scalar_subquery()
)
_COLUMNS = (
    UserRow.id,
    UserRow.email,
    UserRow.email_key,
    UserRow.name,
    UserRow.password_hash,
    UserRow.status,
    _ROLES.label("roles"),
    UserRow.credentials_version,
    UserRow.sessions_cv,
    UserRow.email_verified_at,
    UserRow.version,
    UserRow.external_id,
    UserRow.created_at,
    UserRow.updated_at,
    UserRow.disabled_at,
    UserRow.deleted_at,
)
# Where in the columns the two values are that are not yet what User holds.
_STATUS, _ROLE_LIST = 5, 6
_PEOPLE = select(*_COLUMNS)
# Made once: with the very statement that it compiled, SQLAlchemy need not fit a cached result to another one.
_BY_ID = _PEOPLE.where(UserRow.id == bindparam("user_id"))
_BY_EMAIL_KEY = _PEOPLE.where(UserRow.email_key == bindparam("key"))
_IMPORTED = select(UserRow.external_id).where(UserRow.external_id.is_not(None)).limit(1)
_LOCKED = select(UserRow.id).where(UserRow.id == bindparam("user_id")).with_for_update()
_ADMINISTRATORS_LOCKED = select(RoleRow.user_id).where(RoleRow.role == ADMIN).with_for_update()
_ANOTHER_ADMINISTRATOR = (
    select(RoleRow.user_id)
    .join(UserRow, UserRow.id == RoleRow.user_id)
    .where(RoleRow.role == ADMIN, UserRow.status == Status.ACTIVE, UserRow.id != bindparam("user_id"))
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Filters:
    """What an administrator's list is narrowed to; None and empty narrow nothing."""

    status: Status | None = None
    role: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    email_prefix: str = ""
    name_prefix: str = ""
    external_id: str | None = None


async def find(connection: AsyncConnection, user_id: UUID) -> User | None:
    row = (await connection.execute(_BY_ID, {"user_id": user_id})).one_or_none()
    return _user(row) if row else None


async def find_by_email_key(connection: AsyncConnection, key: str) -> User | None:
    row = (await connection.execute(_BY_EMAIL_KEY, {"key": key})).one_or_none()
    return _user(row) if row else None


async def any_imported(connection: AsyncConnection) -> bool:
    """Whether anybody here came from another system."""
    return (await connection.execute(_IMPORTED)).first() is not None


async def lock(connection: AsyncConnection, user_id: UUID) -> User:
    """Read a person and hold their row until the transaction ends, or raise UserNotFound."""
    await connection.execute(_LOCKED, {"user_id": user_id})
    user = await find(connection, user_id)
    if user is None:
        raise UserNotFound
    return user


async def require_another_administrator(connection: AsyncConnection, user_id: UUID) -> None:
    """Raise LastAdministrator unless somebody else is an active one, and see to it that they stay so.

    Who takes an administrator away holds the role's rows until the end: two who take away each other meet here.
    """
    await connection.execute(_ADMINISTRATORS_LOCKED)
    # A statement of its own: what the one above saw is from before it waited.
    if (await connection.execute(_ANOTHER_ADMINISTRATOR, {"user_id": user_id})).first() is None:
        raise LastAdministrator


async def add(connection: AsyncConnection, user: User) -> None:
    """Insert a person, or raise EmailTaken: the unique key decides the race."""
    try:
        await connection.execute(insert(UserRow).values(row_of(user)))
    except IntegrityError as error:
        raise EmailTaken from error
    await _write_roles(connection, user)


async def save(connection: AsyncConnection, before: User, after: User) -> None:
    """Write a person whose row is locked; only roles that changed are touched."""
    try:
        await connection.execute(update(UserRow).where(UserRow.id == after.id).values(**_values(after)))
    except IntegrityError as error:
        raise EmailTaken from error
    if before.roles != after.roles:
        await connection.execute(delete(RoleRow).where(RoleRow.user_id == after.id))
        await _write_roles(connection, after)


async def replace_hash(connection: AsyncConnection, user_id: UUID, old: str, new: str) -> None:
    """Store the same password's new hash, unless the password changed meanwhile."""
    await connection.execute(
        update(UserRow).where(UserRow.id == user_id, UserRow.password_hash == old).values(password_hash=new)
    )


async def remove(connection: AsyncConnection, user_id: UUID) -> None:
    await connection.execute(delete(UserRow).where(UserRow.id == user_id))


async def page(connection: AsyncConnection, filters: Filters, limit: int, cursor: str | None) -> Page[User]:
    """One page in a stable order: by the searched key when searching, else by id, which is by creation."""
    query = _filtered(_PEOPLE, filters)
    if filters.email_prefix:
        query = query.order_by(UserRow.email_key)
        if cursor:
            query = query.where(UserRow.email_key > decode_cursor(cursor, 1)[0])
    elif filters.name_prefix:
        query = query.order_by(UserRow.name_key, UserRow.id)
        if cursor:
            name, last = decode_cursor(cursor, 2)
            # The plain bound is what lets MySQL start in the middle of the index.
            query = query.where(
                UserRow.name_key >= name, or_(UserRow.name_key > name, UserRow.id > _id(last))
            )
    else:
        by_id = _id_column(filters)
        query = query.order_by(by_id)
        if cursor:
            query = query.where(by_id > _id(decode_cursor(cursor, 1)[0]))
    users = [_user(row) for row in await connection.execute(query.limit(limit + 1))]
    more = len(users) > limit
    return Page(users[:limit], _position(users[limit - 1], filters) if more else None)


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    if filters.status:
        query = query.where(UserRow.status == filters.status)
    if filters.role:
        query = query.join(RoleRow, RoleRow.user_id == UserRow.id).where(RoleRow.role == filters.role)
    # Ids carry the time of creation, so that a range of time is a range of the primary key.
    if filters.created_from:
        query = query.where(_id_column(filters) >= first_id(filters.created_from))
    if filters.created_before:
        query = query.where(_id_column(filters) < first_id(filters.created_before))
    if prefix := email_key_prefix(filters.email_prefix):
        query = query.where(UserRow.email_key >= prefix, UserRow.email_key < prefix + "\U0010ffff")
    if filters.external_id is not None:
        query = query.where(UserRow.external_id == filters.external_id)
    if prefix := name_key(filters.name_prefix):
        query = query.where(UserRow.name_key >= prefix, UserRow.name_key < prefix + "\U0010ffff")
    return query


def _id_column(filters: Filters) -> InstrumentedAttribute[UUID]:
    # Ordered by the other column that holds the same id, MySQL would sort everybody who has the role.
    return RoleRow.user_id if filters.role else UserRow.id


def _position(last: User, filters: Filters) -> str:
    if filters.email_prefix:
        return encode_cursor(last.email_key)
    if filters.name_prefix:
        return encode_cursor(name_key(last.name), str(last.id))
    return encode_cursor(str(last.id))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise CursorInvalid from error


def row_of(user: User) -> dict[str, Any]:
    """All columns of a person who is added."""
    return {
        "id": user.id,
        "created_at": user.created_at,
        "external_id": user.external_id,
        **_values(user),
    }


def _values(user: User) -> dict[str, Any]:
    return {
        "email": user.email,
        "email_key": user.email_key,
        "name": user.name,
        "name_key": name_key(user.name),
        "password_hash": user.password_hash,
        "status": user.status,
        "credentials_version": user.credentials_version,
        "sessions_cv": user.sessions_cv,
        "email_verified_at": user.email_verified_at,
        "version": user.version,
        "updated_at": user.updated_at,
        "disabled_at": user.disabled_at,
        "deleted_at": user.deleted_at,
    }


async def _write_roles(connection: AsyncConnection, user: User) -> None:
    if user.roles:
        await connection.execute(insert(RoleRow), [{"user_id": user.id, "role": role} for role in user.roles])


def _user(row: Row[Any]) -> User:
    values = list(row)
    values[_STATUS] = Status(values[_STATUS])
    values[_ROLE_LIST] = tuple(sorted(values[_ROLE_LIST].split(","))) if values[_ROLE_LIST] else ()
    return User(*values)
