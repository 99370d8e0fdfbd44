"""The users table, its roles and changes of address, and what a person is to the rest of the service."""

import secrets
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.columns import MYSQL, Base, Digest, Id, Moment, Serial
from user_service.users.email import Email

# The role that may see and change anyone.
ADMIN: Final = "admin"

# For so long a change of address can be undone.
UNDO_FOR: Final = timedelta(days=7)


class Status(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


class UserRow(Base):
    __tablename__ = "users"
    __table_args__ = (Index(None, "status", "id"), Index(None, "name_key", "id"), MYSQL)

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(320), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    name_key: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16), server_default=text("'active'"))
    credentials_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    sessions_cv: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    email_verified_at: Mapped[datetime | None] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    external_id: Mapped[str | None] = mapped_column(String(190), unique=True)
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    disabled_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)


class RoleRow(Base):
    __tablename__ = "user_roles"
    __table_args__ = (Index(None, "role", "user_id"), MYSQL)

    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(32), primary_key=True)


class IdempotencyRow(Base):
    """The answer to a creating POST, kept for a day so that a retry gets the same one."""

    __tablename__ = "idempotency"
    __table_args__ = (Index(None, "created_at"), Index(None, "user_id"), MYSQL)

    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    route: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(Digest)
    body: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[UUID | None] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(Moment)


class AddressChangeRow(Base):
    """While it can be undone, the old address stays reserved for its person."""

    __tablename__ = "address_changes"
    __table_args__ = (Index(None, "old_email_key"), Index(None, "user_id", "id"), MYSQL)

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"))
    old_email: Mapped[str] = mapped_column(String(320))
    old_email_key: Mapped[str] = mapped_column(String(320))
    changed_at: Mapped[datetime] = mapped_column(Moment)
    undo_until: Mapped[datetime] = mapped_column(Moment)


@dataclass(frozen=True, slots=True)
class User:
    """A person as stored, at one version."""

    id: UUID
    email: str
    email_key: str
    name: str
    password_hash: str | None
    status: Status
    roles: tuple[str, ...]
    credentials_version: int
    sessions_cv: int
    email_verified_at: datetime | None
    version: int
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    deleted_at: datetime | None

    @property
    def administers(self) -> bool:
        """Whether this person can sign in and may see and change anyone."""
        return self.status is Status.ACTIVE and ADMIN in self.roles

    def with_sessions_ended(self) -> "User":
        """The same person after a change that no session, the changing one included, may outlive."""
        version = self.credentials_version + 1
        return replace(self, credentials_version=version, sessions_cv=version)

    def with_roles(self, roles: tuple[str, ...]) -> "User":
        """Sessions live on: their clients refresh and get tokens with the new roles."""
        return replace(self, roles=roles, credentials_version=self.credentials_version + 1)


@dataclass(frozen=True, slots=True)
class AddressChange:
    id: int
    user_id: UUID
    old_email: str
    old_email_key: str
    undo_until: datetime


def new_user(email: Email, name: str, password_hash: str | None, at: datetime) -> User:
    """Somebody who has just come, and has not shown yet that the address is theirs."""
    return User(
        id=new_id(at),
        email=email.address,
        email_key=email.key,
        name=name,
        password_hash=password_hash,
        status=Status.ACTIVE,
        roles=(),
        credentials_version=1,
        sessions_cv=1,
        email_verified_at=None,
        version=1,
        external_id=None,
        created_at=at,
        updated_at=at,
        disabled_at=None,
        deleted_at=None,
    )


def tag_of(person: UUID, version: int) -> str:
    """What the ETag says. At /me every person is read at one URL, and a browser asks with the ETag of the last one's
    record whatever Vary says: the version alone would be the next one's, too, and 304 shows them the wrong record."""
    return f"{version}.{person}"


def name_key(name: str) -> str:
    """What a prefix search on names compares: without case and width, cut to the column."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())[:200]


def new_id(at: datetime) -> UUID:
    """A UUIDv7 (RFC 9562): ids sort by `at`, to the millisecond."""
    random_bits = secrets.randbits(74)
    return UUID(
        int=_milliseconds(at) << 80
        | 0x7 << 76
        | (random_bits >> 62) << 64
        | 0b10 << 62
        | random_bits & 2**62 - 1
    )


def first_id(at: datetime) -> UUID:
    """The bound between ids made before `at` and those made at or after it."""
    return UUID(int=_milliseconds(at) << 80)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _milliseconds(at: datetime) -> int:
    return max(0, int(at.timestamp() * 1000)) & 2**48 - 1
