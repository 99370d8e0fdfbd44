"""Verifying access tokens (RFC 9068, ES256): strict reading, one signature check, and a memo of what was verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from service_kit.jwks import KeyCache


class TokenRefused(Exception):
    """This token is not accepted: 401 invalid_token. `code` is stable, `detail` is for people and holds no input."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


class KeyUnknown(TokenRefused):
    """No key of that id is held; it may exist at the issuer."""

    def __init__(self, kid: str) -> None:
        super().__init__("unknown_key", "The key that signed the token is not known.")
        self.kid = kid


class CannotVerify(Exception):
    """Nothing can be said about any token now: 503 with Retry-After, never 401."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as a verified token says it. Times are Unix seconds."""

    subject: str
    client_id: str
    session_id: str
    scopes: frozenset[str]
    roles: frozenset[str]
    credentials_version: int | None
    token_id: str
    key_id: str
    issued_at: float
    expires_at: float
    auth_time: float | None
    issuer: str
    audience: str

    def has_scope(self, scope: str) -> bool:
        """`*`, the first-party client's scope, has all."""
        return scope in self.scopes or "*" in self.scopes


class RevocationCheck(Protocol):
    """What the verifier asks on every token, remembered or not."""

    def check(self, caller: Caller, now: float) -> None:
        """Raise TokenRefused for a revoked token, CannotVerify when that cannot be told."""


class Verifier:
    """Turns a token into a Caller, or refuses it. `issuers` maps each accepted issuer to the time its acceptance
    ends (None: never); `audience` None means the token's own issuer (consumer tokens)."""

    def __init__(
        self,
        keys: KeyCache,
        revocations: RevocationCheck,
        issuers: Mapping[str, float | None],
        audience: str | None = None,
        leeway: float = 30,
        max_lifetime: float = 3600,
        memo_size: int = 20_000,
    ) -> None:
        raise NotImplementedError

    def verify(self, token: bytes, now: float) -> Caller:
        """Synchronous, no I/O; raises TokenRefused, KeyUnknown or CannotVerify."""
        raise NotImplementedError

    def remembered(self, token: bytes, now: float) -> bool:
        """Whether `verify` would find the token in its memo."""
        raise NotImplementedError

    async def identify(self, token: bytes) -> Caller:
        """Verify now; for an unknown key fetch the keys once and verify once more."""
        raise NotImplementedError
