"""Mails that wait, and links that were mailed.

A mail waits as what to tell whom, never as text: its link is made when it is sent, and only a hash of the link's
token is stored. So no token is in this database, and no backup of it opens an account.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.columns import MYSQL, Base, Digest, Id, Moment, Serial
from user_service.users.models import UNDO_FOR


class LinkKind(StrEnum):
    """What following the link does; also the last segment of its address."""

    VERIFY = "verify-address"
    REGISTER = "confirm-registration"
    CHANGE = "change-address"
    UNDO = "undo-change"
    RESET = "reset-password"


LIFETIME: Final = {
    LinkKind.VERIFY: timedelta(hours=24),
    LinkKind.REGISTER: timedelta(hours=24),
    LinkKind.CHANGE: timedelta(hours=1),
    LinkKind.UNDO: UNDO_FOR,
    LinkKind.RESET: timedelta(minutes=30),
}


class MailRow(Base):
    __tablename__ = "mail_outbox"
    __table_args__ = (Index(None, "next_attempt_at"), Index(None, "user_id"), MYSQL)

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(32))
    user_id: Mapped[UUID | None] = mapped_column(Id)
    email: Mapped[str | None] = mapped_column(String(320))
    email_key: Mapped[str | None] = mapped_column(String(320))
    sessions_cv: Mapped[int | None] = mapped_column(Integer)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(Moment)
    next_attempt_at: Mapped[datetime] = mapped_column(Moment)


class LinkRow(Base):
    __tablename__ = "mailed_links"
    __table_args__ = (
        Index(None, "email_key", "created_at"),
        Index(None, "user_id"),
        Index(None, "expires_at"),
        MYSQL,
    )

    digest: Mapped[bytes] = mapped_column(Digest, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    user_id: Mapped[UUID | None] = mapped_column(Id)
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(320))
    sessions_cv: Mapped[int | None] = mapped_column(Integer)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    used_at: Mapped[datetime | None] = mapped_column(Moment)


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """What to tell whom. Without an address of its own it goes to the person's stored one."""

    kind: str
    user_id: UUID | None = None
    email: str | None = None
    email_key: str | None = None
    sessions_cv: int | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    id: int
    attempts: int
    created_at: datetime
    mail: WaitingMail


@dataclass(frozen=True, slots=True)
class Link:
    """What following a link does, to whom, and for which address.

    `sessions_cv`: the link is dead once the person's sessions have ended since it was asked for; so a reset, a
    changed password or an undone change drops what was pending, without looking for it.
    """

    kind: LinkKind
    user_id: UUID | None
    email: str
    email_key: str
    sessions_cv: int | None
    data: dict[str, Any] | None
    expires_at: datetime
    used_at: datetime | None
