"""The key ring that all replicas share: read, created when absent, rotated by time and by command."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from auth_service import audit
from auth_service.exceptions import Unavailable
from auth_service.keys.exceptions import KeyNotInRing, KeysUnavailable
from auth_service.keys.models import Key, Policy, Ring
from auth_service.keys.sealing import Sealer
from auth_service.keys.signing import Signer
from auth_service.store import Script, Store

CREATE = Script("revocations/append.lua", "keys/create.lua")
REPLACE = Script("revocations/append.lua", "keys/replace.lua")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """The ring as it was read: its text decides whether a replacement still applies."""

    text: str
    ring: Ring
    signer: Signer


class KeyRing:
    def __init__(self, store: Store, sealer: Sealer, policy: Policy, retention_ms: int) -> None:
        self._store = store
        self._sealer = sealer
        self.policy = policy
        self._retention = retention_ms
        self._read: _Read | None = None
        self._wake = asyncio.Event()

    @property
    def signer(self) -> Signer:
        if self._read is None:
            raise KeysUnavailable
        return self._read.signer

    @property
    def readable(self) -> bool:
        return self._read is not None

    async def load(self) -> Ring:
        """The ring as it stands in the store; creates what is absent."""
        async with self._store.answering() as redis, redis.pipeline(transaction=False) as pipe:
            pipe.get("auth:ring")
            pipe.exists("auth:ring", "auth:epoch", "auth:revocations")
            text, present = await pipe.execute()
        if present < 3:
            text = await self._create()
        return self._keep(text)

    async def jwks(self) -> dict[str, Any]:
        """What the store holds now, so that no replica lags; the last one read while the store is away."""
        try:
            return (await self.load()).jwks()
        except Unavailable:
            if self._read is None:
                raise
            return self._read.ring.jwks()

    async def rotate(self) -> Ring:
        """Raises TooEarly when a verifier might not know the next key yet."""
        return await self._change(lambda ring, now: ring.rotated(self._sealer.new_key(now), now, self.policy))

    async def revoke(self, kid: str) -> Ring:
        """Drops a key at every verifier, through the revocation stream."""

        def without(ring: Ring, now: int) -> Ring:
            if ring.find(kid) is None:
                raise KeyNotInRing(kid)
            return ring.revoked(kid, self._sealer.new_key(now), now)

        return await self._change(without, revoked=kid)

    async def tend(self) -> None:
        """What time asks for: drop keys nobody needs, rotate, move under the new key-encryption key."""
        ring = await self.load()
        now = int(time.time())
        if ring.pruned(now, self.policy) is not ring:
            await self._change(lambda ring, now: ring.pruned(now, self.policy), due="pruned")
        if now >= ring.rotation_due_at(self.policy):
            await self._change(self._rotated_if_due, due="rotated")
        if any(self._sealer.resealed(key) for key in ring.keys):
            await self._change(lambda ring, now: self._resealed(ring), due="resealed")

    async def run(self, every: float = 1.0) -> None:
        """Keeps this replica's copy fresh, and the ring in order."""
        while True:
            self._wake.clear()
            try:
                await self.tend()
            except KeysUnavailable as failure:
                logger.error("the key ring cannot be used: %s", failure.why)
            except Unavailable as failure:
                logger.warning("the key ring could not be read: %s", failure.code)
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._wake.wait()

    def wake(self) -> None:
        """Look at the ring now: another replica has changed it."""
        self._wake.set()

    def _rotated_if_due(self, ring: Ring, now: int) -> Ring:
        if now < ring.rotation_due_at(self.policy):
            return ring  # another replica was first
        return ring.rotated(self._sealer.new_key(now), now, self.policy)

    def _resealed(self, ring: Ring) -> Ring:
        def sealed(key: Key) -> Key:
            return replace(key, sealed=self._sealer.resealed(key) or key.sealed)

        return Ring(sealed(ring.current), sealed(ring.next), tuple(map(sealed, ring.retired)))

    async def _create(self) -> str:
        now = int(time.time())
        ring = Ring.first(self._sealer.new_key(now), self._sealer.new_key(now), now)
        if await self._store.run(CREATE, ring=ring.to_json(), epoch=secrets.token_hex(16)):
            logger.warning("the store was empty: a new epoch and a new key ring begin")
            audit.record("keys", "created", "store_empty", actor=audit.OURSELVES, key=ring.current.kid)
        async with self._store.answering() as redis:
            text: str | None = await redis.get("auth:ring")
        if text is None:
            raise KeysUnavailable
        return text

    async def _change(
        self, change: Callable[[Ring, int], Ring], *, due: str = "", revoked: str | None = None
    ) -> Ring:
        """Compare and set: of several replicas that change one ring, one wins and the others look again.

        `due` is the audit's word for a change that time asked for; a command tells of its own.
        """
        while True:
            await self.load()
            assert self._read is not None
            before = self._read
            after = change(before.ring, int(time.time()))
            if after is before.ring:
                return after
            text = after.to_json()
            if await self._store.run(
                REPLACE, durable=True, read=before.text, ring=text, revoked=revoked, retention=self._retention
            ):
                if due:
                    audit.record("keys", due, "due", actor=audit.OURSELVES, key=after.current.kid)
                return self._keep(text)

    def _keep(self, text: str) -> Ring:
        if self._read is not None and self._read.text == text:
            return self._read.ring
        ring = Ring.from_json(text)
        self._read = _Read(text, ring, Signer(ring.current.kid, self._sealer.open(ring.current)))
        return ring
