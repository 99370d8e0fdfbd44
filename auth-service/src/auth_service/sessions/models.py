"""A session: one sign-in of one person at one client, and what its refresh tokens renew."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

# Besides the mac of all the rest, two times by Redis's clock; they decide no right.
NOT_AUTHENTICATED: Final = frozenset(("mac", "made", "used"))
_KNOWN: Final = NOT_AUTHENTICATED | {
    "sub", "client_id", "scope", "cv", "auth_time", "device", "address", "created", "expires",
    "generation", "attempt", "parent_attempt",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Session:
    """Times are Unix seconds. `mac` is that of `fields`."""

    id: str
    subject: str
    client_id: str
    scope: str
    credentials_version: int
    auth_time: int
    device: str
    address: str
    created: int
    expires: int
    used: int
    generation: int = 0
    attempt: int = 0
    parent_attempt: int = -1
    more: Mapping[str, str] = field(default_factory=dict)  # what a newer release has written, kept as it is
    mac: str = ""

    @classmethod
    def read(cls, session_id: str, stored: Mapping[str, str]) -> "Session":
        """From the store's hash."""
        return cls(
            id=session_id,
            subject=stored["sub"],
            client_id=stored["client_id"],
            scope=stored["scope"],
            credentials_version=int(stored["cv"]),
            auth_time=int(stored["auth_time"]),
            device=stored["device"],
            address=stored["address"],
            created=int(stored["created"]),
            expires=int(stored["expires"]),
            used=_milliseconds(stored.get("used", "")) // 1000,
            generation=int(stored["generation"]),
            attempt=int(stored["attempt"]),
            parent_attempt=int(stored["parent_attempt"]),
            more={name: value for name, value in stored.items() if name not in _KNOWN},
            mac=stored["mac"],
        )

    def fields(self) -> dict[str, str]:
        """What the store's hash says of it, all that is authenticated."""
        return {
            **self.more,
            "sub": self.subject,
            "client_id": self.client_id,
            "scope": self.scope,
            "cv": str(self.credentials_version),
            "auth_time": str(self.auth_time),
            "device": self.device,
            "address": self.address,
            "created": str(self.created),
            "expires": str(self.expires),
            "generation": str(self.generation),
            "attempt": str(self.attempt),
            "parent_attempt": str(self.parent_attempt),
        }

    @property
    def current(self) -> tuple[int, int]:
        """Generation and attempt of the refresh token that renews it."""
        return self.generation, self.attempt

    @property
    def parent(self) -> tuple[int, int]:
        """Those of the one that was spent for it."""
        return self.generation - 1, self.parent_attempt

    def next_generation(self, cv: int) -> "Session":
        return replace(
            self,
            generation=self.generation + 1,
            attempt=0,
            parent_attempt=self.attempt,
            credentials_version=max(self.credentials_version, cv),
        )

    def next_attempt(self, cv: int) -> "Session":
        return replace(self, attempt=self.attempt + 1, credentials_version=max(self.credentials_version, cv))


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds, and how many sessions one person may hold."""

    idle: int
    absolute: int
    per_person: int
    replay: int = 10  # how long a successor is handed out again to who presents its parent


def _milliseconds(text: str) -> int:
    """Of a time that is not authenticated, so that it may be anything."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 15 else 0
