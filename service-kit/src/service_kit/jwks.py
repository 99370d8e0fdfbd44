"""The issuer's public keys (RFC 7517): fetched in the background, held in memory, never trusted beyond ES256."""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

Fetch = Callable[[], Awaitable[dict[str, Any]]]


class FetchOutcome(Enum):
    """What asking the issuer about an unknown key id told."""

    FOUND = auto()
    ABSENT = auto()
    UNAVAILABLE = auto()


class KeyCache:
    """Keys by id. `version` changes when a key that was held no longer is."""

    version: int = 0

    def __init__(self, fetch: Fetch, lifetime: float = 300, cooldown: float = 1.0) -> None:
        raise NotImplementedError

    @property
    def loaded(self) -> bool:
        """Whether keys were fetched since the start or the last `drop_all`."""
        raise NotImplementedError

    def find(self, kid: str) -> EllipticCurvePublicKey | None:
        """The key, if held; no I/O."""
        raise NotImplementedError

    async def refresh(self) -> bool:
        """Fetch once, or join the fetch in flight; False (and the old keys stay) if it failed."""
        raise NotImplementedError

    async def fetch_for(self, kid: str) -> FetchOutcome:
        """Look for an unknown key at the issuer, at most once per cool-down."""
        raise NotImplementedError

    def drop(self, kid: str) -> None:
        """Forget one key now."""
        raise NotImplementedError

    def drop_all(self) -> None:
        """Forget every key now: a new epoch began."""
        raise NotImplementedError

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        raise NotImplementedError


def http_fetch(url: str, timeout: float = 2.0) -> Fetch:
    """Fetch the JWKS over HTTP, within `timeout` seconds in total."""
    raise NotImplementedError


def public_jwk(kid: str, key: EllipticCurvePublicKey) -> dict[str, str]:
    """The key as a JWKS member: public members, use and alg."""
    raise NotImplementedError
