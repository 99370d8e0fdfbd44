"""A person as user-service tells us: what a session and a token need, and no more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LONGEST_WAIT: Final = 2.0  # seconds
# What user-service says why not. A reason is a metric's label, so another one, of a newer release, is `other`.
REASONS: Final = frozenset(("unknown", "wrong_password", "disabled", "unverified"))


@dataclass(frozen=True, slots=True)
class User:
    id: str
    status: str
    roles: tuple[str, ...]
    credentials_version: int
    sessions_cv: int

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "User":
        return cls(
            id=str(body["id"]),
            status=str(body["status"]),
            roles=tuple(sorted(map(str, body["roles"]))),
            credentials_version=int(body["credentials_version"]),
            sessions_cv=int(body["sessions_cv"]),
        )

    @property
    def active(self) -> bool:
        return self.status == "active"


@dataclass(frozen=True, slots=True)
class Refused:
    """The credentials are not good for a sign-in; the reason is for the audit alone, never for the answer.

    `wait` is how many seconds have to pass before whoever tried may learn of it.
    """

    reason: str
    wait: float = 0.0

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "Refused":
        wait = float(body.get("wait", 0))
        if not 0 <= wait <= LONGEST_WAIT:
            raise ValueError("a wait that nobody would wait")
        reason = str(body["reason"])
        return cls(reason if reason in REASONS else "other", wait)
