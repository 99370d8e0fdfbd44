"""The text of a refresh token, `sid.generation.attempt.mac`, proved by its mac before the store is asked."""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from auth_service.sessions.exceptions import RefreshTokenInvalid

SHAPE = re.compile(r"[A-Za-z0-9_-]{22}(?:\.(?:0|[1-9][0-9]{0,9})){2}\.[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    session_id: str
    generation: int
    attempt: int

    @property
    def pair(self) -> tuple[int, int]:
        return self.generation, self.attempt

    def __str__(self) -> str:
        return f"{self.session_id}.{self.generation}.{self.attempt}"


class RefreshTokens:
    """Writes under the first key and reads under each, so that replacing a key signs nobody out."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def write(self, token: RefreshToken) -> str:
        return f"{token}.{_mac(self._keys[0], token)}"

    def read(self, text: str) -> RefreshToken:
        if not SHAPE.fullmatch(text):
            raise RefreshTokenInvalid
        session_id, generation, attempt, mac = text.split(".")
        token = RefreshToken(session_id, int(generation), int(attempt))
        # Texts are compared, not bytes: of the texts that decode to one mac only ours is accepted.
        if not any(hmac.compare_digest(_mac(key, token), mac) for key in self._keys):
            raise RefreshTokenInvalid
        return token


def _mac(key: bytes, token: RefreshToken) -> str:
    return (
        urlsafe_b64encode(hmac.digest(key, b"refresh:" + str(token).encode(), "sha256")).decode().rstrip("=")
    )
