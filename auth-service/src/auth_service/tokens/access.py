"""Access tokens (RFC 9068): the claims, and the signature of the ring's current key."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

from auth_service.keys.service import KeyRing
from auth_service.sessions.models import Session
from auth_service.users.models import User


class AccessTokens:
    def __init__(self, keys: KeyRing, issuer: str, lifetime: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self.lifetime = lifetime

    def for_person(self, session: Session, user: User, scope: str) -> str:
        return self._sign(
            {
                "aud": self._issuer,
                "sub": session.subject,
                "client_id": session.client_id,
                "sid": session.id,
                "cv": session.credentials_version,
                "scope": scope,
                "roles": list(user.roles),
                "auth_time": session.auth_time,
            },
            self.lifetime,
        )

    def for_client(
        self, client_id: str, scope: str, audience: str | None = None, lifetime: int | None = None
    ) -> str:
        """Its `sub` has a colon, so it is no user's id; its `sid` is fresh, so it can be revoked alone."""
        return self._sign(
            {
                "aud": audience or self._issuer,
                "sub": f"client:{client_id}",
                "client_id": client_id,
                "sid": secrets.token_urlsafe(16),
                "scope": scope,
            },
            lifetime or self.lifetime,
        )

    def _sign(self, claims: dict[str, Any], lifetime: int) -> str:
        now = int(time.time())
        registered = {
            "iss": self._issuer,
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(12),
        }
        return self._keys.signer.sign(registered | claims)


class ServiceToken:
    """Our own token towards one service, signed again at half its life or when the key was replaced."""

    LIFETIME = 60

    def __init__(self, tokens: AccessTokens, keys: KeyRing, audience: str, scopes: Iterable[str]) -> None:
        self._tokens = tokens
        self._keys = keys
        self._audience = audience
        self._scope = " ".join(scopes)
        self._token = self._kid = ""
        self._renew_at = 0.0

    def __call__(self) -> str:
        if time.monotonic() >= self._renew_at or self._kid != self._keys.signer.kid:
            self._token = self._tokens.for_client("auth-service", self._scope, self._audience, self.LIFETIME)
            self._kid = self._keys.signer.kid
            self._renew_at = time.monotonic() + self.LIFETIME / 2
        return self._token
