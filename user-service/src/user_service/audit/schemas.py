"""The audit as an administrator reads it."""

from typing import Any

from pydantic import AwareDatetime, BaseModel

from user_service.audit.models import Record


class RecordOut(BaseModel):
    action: str
    actor: str
    details: dict[str, Any]
    address: str | None
    request_id: str | None
    at: AwareDatetime

    @classmethod
    def of(cls, record: Record) -> "RecordOut":
        return cls(
            action=record.action,
            actor=record.actor,
            details=record.details,
            address=record.address,
            request_id=record.request_id,
            at=record.at,
        )


class RecordPage(BaseModel):
    items: list[RecordOut]
    next: str | None
