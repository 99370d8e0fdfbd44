"""The JSON of a person's sessions."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from auth_service.sessions.models import Session


class SessionView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "jgLCkhqKWdqYW1qPBoq-Ww",
                    "client_id": "first-party",
                    "device": "Firefox on Linux",
                    "address": "192.0.2.0/24",
                    "created_at": "2026-11-30T17:06:05Z",
                    "last_used_at": "2026-11-30T18:20:41Z",
                    "expires_at": "2026-12-30T17:06:05Z",
                    "current": True,
                }
            ]
        }
    )

    id: str
    client_id: str
    device: str
    address: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool

    @classmethod
    def of(cls, session: Session, current: str) -> "SessionView":
        return cls(
            id=session.id,
            client_id=session.client_id,
            device=session.device,
            address=session.address,
            created_at=datetime.fromtimestamp(session.created, UTC),
            last_used_at=datetime.fromtimestamp(session.used, UTC),
            expires_at=datetime.fromtimestamp(session.expires, UTC),
            current=session.id == current,
        )


class SessionList(BaseModel):
    items: list[SessionView]
