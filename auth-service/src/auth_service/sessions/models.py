"""A session: one sign-in of one person at one client, and what its refresh tokens renew."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    subject: str
    client_id: str
    scope: str
    credentials_version: int
    auth_time: int
    device: str
    address: str
    created: int
    used: int
    expires: int

    @classmethod
    def read(cls, session_id: str, stored: Mapping[str, str]) -> "Session":
        """From the store's hash; its times are milliseconds."""
        return cls(
            id=session_id,
            subject=stored["sub"],
            client_id=stored["client_id"],
            scope=stored["scope"],
            credentials_version=int(stored["cv"]),
            auth_time=int(stored["auth_time"]),
            device=stored["device"],
            address=stored["address"],
            created=int(stored["created"]) // 1000,
            used=int(stored["used"]) // 1000,
            expires=int(stored["expires"]) // 1000,
        )


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds, and how many sessions one person may hold."""

    idle: int
    absolute: int
    per_person: int
    replay: int = 10  # how long a successor is handed out again to who presents its parent
