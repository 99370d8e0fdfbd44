"""The outbox: events that are committed and not yet in the stream."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.columns import MYSQL, Base, Id, Moment, Serial


class OutboxRow(Base):
    __tablename__ = "outbox"
    # An id is never given twice, not even by SQLite after the newest row is gone: by it readers know repeats.
    __table_args__ = MYSQL | {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    type: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[UUID] = mapped_column(Id)
    credentials_version: Mapped[int] = mapped_column(Integer)
    sessions_cv: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(Moment)
    request_id: Mapped[str | None] = mapped_column(String(128))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a person, as it is told to other services."""

    id: int
    type: str
    user_id: UUID
    credentials_version: int
    sessions_cv: int
    at: datetime
    request_id: str | None

    def fields(self) -> dict[str, str]:
        """The stream entry; `id` rises with every change of one person and tells repeats apart."""
        return {
            "id": str(self.id),
            "type": self.type,
            "sub": str(self.user_id),
            "cv": str(self.credentials_version),
            "sessions_cv": str(self.sessions_cv),
            "at": self.at.isoformat(),
            "request_id": self.request_id or "",
        }
