"""What ended early: followed on the issuer's revocation stream, held in memory, asked on every request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis

from service_kit.jwks import KeyCache
from service_kit.tokens import Caller

STREAM = "auth:revocations"
EPOCH = "auth:epoch"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the stream. `value` is the session id, the subject or the key id; `until` Unix seconds."""

    kind: Literal["session", "subject", "key"]
    value: str
    credentials_version: int
    until: int


class Revocations:
    """What this process knows of revocations, and how sure it is of that."""

    def __init__(self, ceiling: float = 60.0) -> None:
        raise NotImplementedError

    def check(self, caller: Caller, now: float) -> None:
        """Raise TokenRefused if revoked, CannotVerify if what is held is unproven or too old."""
        raise NotImplementedError

    def fresh(self, now: float) -> bool:
        """Whether what is held may be relied on."""
        raise NotImplementedError

    def staleness(self, now: float) -> float:
        """Seconds since the last proof; infinite while unproven."""
        raise NotImplementedError

    def on_change(self, callback: Callable[[Revocation], None]) -> None:
        """Call back for each revocation learnt, at once, on the event loop."""
        raise NotImplementedError

    def add(self, revocation: Revocation) -> None:
        """Hold a revocation until it expires and tell the listeners."""
        raise NotImplementedError


class Follower:
    """Keeps Revocations in step with the stream."""

    def __init__(self, redis: Redis, revocations: Revocations, keys: KeyCache, ceiling: float = 60.0) -> None:
        raise NotImplementedError

    @property
    def caught_up(self) -> bool:
        """Whether the stream was read to its end since the start or the last loss."""
        raise NotImplementedError

    async def run(self) -> None:
        """Follow until cancelled."""
        raise NotImplementedError
