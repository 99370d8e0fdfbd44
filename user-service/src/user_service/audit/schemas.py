"""The audit as an administrator reads it."""

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from user_service.audit.models import Record
from user_service.pagination import NextCursor


class RecordOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "action": "user.updated",
                    "actor": "01a22d6b-bb1e-723d-9806-ce32656b2f3a",
                    "details": {"fields": ["name"]},
                    "address": "192.0.2.7",
                    "request_id": "5f1d9f3c2b7e4a8d",
                    "at": "2026-11-30T17:21:40.118003Z",
                }
            ]
        }
    )

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
    next: NextCursor
