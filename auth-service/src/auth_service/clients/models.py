"""An OAuth client: who may ask for tokens, and for which."""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Any

from auth_service.config import FIRST_PARTY_ID


@dataclass(frozen=True, slots=True)
class Client:
    id: str
    secret_hashes: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()

    @property
    def public(self) -> bool:
        return not self.secret_hashes

    def knows(self, secret: str) -> bool:
        presented = hash_secret(secret)
        return any(hmac.compare_digest(presented, known) for known in self.secret_hashes)

    def to_json(self) -> str:
        return json.dumps(
            {
                "secret_hashes": self.secret_hashes,
                "scopes": sorted(self.scopes),
                "audiences": sorted(self.audiences),
            }
        )

    @classmethod
    def from_json(cls, client_id: str, text: str) -> "Client":
        stored: dict[str, Any] = json.loads(text)
        return cls(
            client_id,
            tuple(stored["secret_hashes"]),
            frozenset(stored["scopes"]),
            frozenset(stored["audiences"]),
        )


# The client of the people's own front ends. Its tokens carry `*`: what the person may do, they may do.
FIRST_PARTY = Client(FIRST_PARTY_ID, scopes=frozenset({"*"}))


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Plain SHA-256 is enough: secrets are ours, 256 random bits, and cannot be guessed at any speed."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
