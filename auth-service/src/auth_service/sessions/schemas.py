"""The JSON of a person's sessions."""

from datetime import UTC, datetime

from pydantic import BaseModel

from auth_service.sessions.models import Session


class SessionView(BaseModel):
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
