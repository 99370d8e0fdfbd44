"""The key ring that all replicas share: read, created when absent, rotated by time and by command."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from auth_service import audit
from auth_service.exceptions import Unavailable
from auth_service.keys.exceptions import KeyNotInRing, KeysUnavailable, RingForged
from auth_service.keys.models import Policy, Ring
from auth_service.keys.signing import Signer, new_key
from auth_service.records import RecordForged, Records
from auth_service.store import Script, Store

STORED: Final = "auth:keyring"

CREATE = Script("revocations/append.lua", "keys/create.lua")
REPLACE = Script("revocations/append.lua", "keys/replace.lua")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """The ring as it was read: its text decides whether a replacement still applies."""

    text: str
    ring: Ring
    signer: Signer
    outdated: bool  # sealed under the second key-encryption key


class KeyRing:
    def __init__(self, store: Store, records: Records, policy: Policy, retention_ms: int) -> None:
        self._store = store
        self._records = records
        self.policy = policy
        self._retention = retention_ms
        self._read: _Read | None = None
        self._read_at = -math.inf  # by a clock that nobody can set
        self._refused = ""  # the text told of last
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
        """The ring as it stands in the store; creates what is absent.

        An older copy is put right: a key that was revoked since must not come back with it.
        """
        async with self._store.connection() as redis, redis.pipeline(transaction=False) as pipe:
            pipe.get(STORED)
            pipe.exists(STORED, "auth:epoch", "auth:revocations")
            text, present = await pipe.execute()
        if present < 3:
            text = await self._create()
        read = self._opened(text)
        if self._read is not None and read.ring.serial < self._read.ring.serial:
            await self._put_back(text)
        else:
            self._read = read
        self._read_at = time.monotonic()
        return self._read.ring

    async def jwks(self) -> dict[str, Any]:
        """What the store holds now, so that no replica lags. While the store is away the last one read, for less long
        than the stream keeps a key's revocation: a verifier that starts later would learn of it from nobody."""
        try:
            return (await self.load()).jwks()
        except Unavailable as failure:
            kept_seconds = self._retention / 1000 - self.policy.jwks_lifetime
            if self._read is None or time.monotonic() - self._read_at > kept_seconds:
                raise KeysUnavailable from failure
            return self._read.ring.jwks()

    async def rotate(self) -> Ring:
        """Raises TooEarly when a verifier might not know the next key yet."""
        return await self._change(lambda ring, now: ring.rotated(new_key(now), now, self.policy))

    async def revoke(self, kid: str) -> Ring:
        """Drops a key at every verifier, through the revocation stream."""

        def without(ring: Ring, now: int) -> Ring:
            if ring.find(kid) is None:
                raise KeyNotInRing(kid)
            return ring.revoked(kid, new_key(now), now)

        return await self._change(without, revoked=kid)

    async def tend(self) -> None:
        """What time asks for: drop keys nobody needs, rotate, move under the new key-encryption key."""
        ring = await self.load()
        now = int(time.time())
        if ring.pruned(now, self.policy) is not ring:
            await self._change(lambda ring, now: ring.pruned(now, self.policy), due="pruned")
        if now >= ring.rotation_due_at(self.policy):
            await self._change(self._rotated_if_due, due="rotated")
        if self._read is not None and self._read.outdated:
            await self._change(lambda ring, _: replace(ring), due="resealed")

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
        return ring.rotated(new_key(now), now, self.policy)

    async def _create(self) -> str:
        now = int(time.time())
        ring = Ring.first(new_key(now), new_key(now), now)
        if await self._store.run(CREATE, ring=self._sealed(ring), epoch=secrets.token_hex(16)):
            level = logging.INFO if self._read is None else logging.WARNING  # a first start, or a loss
            logger.log(level, "the store was empty: a new epoch and a new key ring begin")
            audit.record("keys", "created", "store_empty", actor=audit.OURSELVES, key=ring.current.kid)
        async with self._store.connection() as redis:
            text: str | None = await redis.get(STORED)
        if text is None:
            raise KeysUnavailable
        return text

    async def _put_back(self, older: str) -> None:
        assert self._read is not None
        newest = self._read
        if await self._store.run(
            REPLACE, durable=True, read=older, ring=newest.text, retention=self._retention
        ):
            logger.error("the store held an older key ring: the newest one that was read is put back")
            audit.record("keys", "put_back", "older_ring", actor=audit.OURSELVES, key=newest.ring.current.kid)

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
            text = self._sealed(after)
            if await self._store.run(
                REPLACE, durable=True, read=before.text, ring=text, revoked=revoked, retention=self._retention
            ):
                if due:
                    audit.record("keys", due, "due", actor=audit.OURSELVES, key=after.current.kid)
                self._read = self._opened(text)
                return self._read.ring

    def _sealed(self, ring: Ring) -> str:
        # The clock, so that a ring which begins anew comes after those that nobody here remembers.
        known = self._read.ring.serial if self._read is not None else 0
        serial = max(time.time_ns() // 1_000_000, known + 1)
        return self._records.seal(STORED, replace(ring, serial=serial).to_json())

    def _opened(self, text: str) -> _Read:
        if self._read is not None and self._read.text == text:
            return self._read
        try:
            opened = self._records.open(STORED, text)
        except RecordForged as forged:
            if text != self._refused:  # not once a second while it stays so
                self._refused = text
                audit.record("keys", "refused", "ring_forged", actor=audit.OURSELVES)
            raise RingForged from forged
        ring = Ring.from_json(opened.text)
        return _Read(text, ring, Signer.of(ring.current), opened.outdated)
