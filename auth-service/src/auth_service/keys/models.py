"""The key ring and its rules: next -> current -> retired -> gone, by time. No I/O and no secrets here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from auth_service.keys.exceptions import RingMalformed

State = Literal["next", "current", "retired"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Seconds. The JWKS may be cached for `jwks_lifetime`; a token lives `token_life`, plus `skew`."""

    jwks_lifetime: int
    token_life: int
    skew: int
    rotation: float

    @property
    def published_before_signing(self) -> int:
        return 2 * self.jwks_lifetime

    @property
    def published_after_signing(self) -> int:
        return self.token_life + self.skew + self.jwks_lifetime


@dataclass(frozen=True, slots=True)
class Key:
    kid: str
    x: str
    y: str
    private: str = field(repr=False)  # PKCS #8 in Base64; at rest the whole ring is sealed
    published_at: int
    current_from: int | None = None
    retired_at: int | None = None

    @property
    def state(self) -> State:
        if self.retired_at is not None:
            return "retired"
        return "next" if self.current_from is None else "current"

    @property
    def jwk(self) -> dict[str, str]:
        """Public members only (RFC 7517)."""
        return {
            "kty": "EC",
            "crv": "P-256",
            "use": "sig",
            "alg": "ES256",
            "kid": self.kid,
            "x": self.x,
            "y": self.y,
        }


class TooEarly(Exception):
    """A step that would break a verifier; `safe_at` is when it no longer would."""

    code = "too_early"

    def __init__(self, safe_at: int) -> None:
        super().__init__(f"safe at {safe_at}")
        self.safe_at = safe_at


@dataclass(frozen=True, slots=True)
class Ring:
    current: Key
    next: Key
    retired: tuple[Key, ...] = ()
    serial: int = 0  # grows with every change, so that an older copy of the ring is known for one

    @classmethod
    def first(cls, current: Key, following: Key, now: int) -> "Ring":
        # Nobody can hold a cached JWKS of a ring that did not exist, so the first key may sign at once.
        return cls(replace(current, current_from=now), following)

    @classmethod
    def from_json(cls, text: str) -> "Ring":
        """RingMalformed if this is no ring."""
        try:
            stored: Mapping[str, Any] = json.loads(text)
            current, following = Key(**stored["current"]), Key(**stored["next"])
            return cls(
                current, following, tuple(Key(**key) for key in stored["retired"]), int(stored["serial"])
            )
        except (ValueError, KeyError, TypeError) as malformed:
            raise RingMalformed from malformed

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def keys(self) -> tuple[Key, ...]:
        return (self.next, self.current, *self.retired)

    def find(self, kid: str) -> Key | None:
        return next((key for key in self.keys if key.kid == kid), None)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.jwk for key in self.keys]}

    def rotation_safe_at(self, policy: Policy) -> int:
        """From when every verifier's cache knows the next key."""
        return self.next.published_at + policy.published_before_signing

    def rotation_due_at(self, policy: Policy) -> float:
        return max(self.rotation_safe_at(policy), (self.current.current_from or 0) + policy.rotation)

    def gone_at(self, key: Key, policy: Policy) -> int | None:
        return None if key.retired_at is None else key.retired_at + policy.published_after_signing

    def rotated(self, new: Key, now: int, policy: Policy) -> "Ring":
        if now < (safe_at := self.rotation_safe_at(policy)):
            raise TooEarly(safe_at)
        return Ring(
            replace(self.next, current_from=now), new, (replace(self.current, retired_at=now), *self.retired)
        )

    def revoked(self, kid: str, new: Key, now: int) -> "Ring":
        """Without that key at once, whatever breaks: a leaked key signs for anybody."""
        if kid == self.current.kid:
            return Ring(replace(self.next, current_from=now), new, self.retired)
        if kid == self.next.kid:
            return replace(self, next=new)
        return replace(self, retired=tuple(key for key in self.retired if key.kid != kid))

    def pruned(self, now: int, policy: Policy) -> "Ring":
        """Without the retired keys whose last token has expired at every verifier."""
        kept = tuple(
            key for key in self.retired if (gone_at := self.gone_at(key, policy)) is None or now < gone_at
        )
        return self if kept == self.retired else replace(self, retired=kept)
