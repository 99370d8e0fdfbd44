"""The audit table, and who stands behind a request."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.columns import MYSQL, Base, Id, Moment, Serial


class AuditRow(Base):
    __tablename__ = "audit"
    # No foreign key: the record outlives the person.
    __table_args__ = (Index(None, "subject_id", "id"), Index(None, "actor", "id"), MYSQL)

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    subject_id: Mapped[UUID] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    address: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(128))
    at: Mapped[datetime] = mapped_column(Moment)


@dataclass(frozen=True, slots=True)
class AuditContext:
    """Where a change comes from: a person's or client's subject, "anonymous", or "command"."""

    actor: str
    address: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit as an administrator reads it."""

    id: int
    action: str
    actor: str
    details: dict[str, Any]
    address: str | None
    request_id: str | None
    at: datetime
