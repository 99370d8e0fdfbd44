"""user-service's events, consumed at least once: what changed about a person ends sessions and tokens here.

Every replica reads as the same consumer of one group; what a dead one left unacknowledged, another claims.
Order does not matter and repeats are harmless, since only a higher credentials version changes anything.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from auth_service import audit
from auth_service.exceptions import Unavailable
from auth_service.revocations.service import Revocations

STREAM, GROUP, CONSUMER = "users", "auth-service", "auth-service"
# Whatever the event, the person's versions decide; but its kind is a metric's label, so a newer one is told as `other`.
KINDS = frozenset(
    f"user.{what}"
    for what in (
        "updated",
        "roles_changed",
        "credentials_changed",
        "disabled",
        "enabled",
        "deleted",
        "restored",
        "erased",
    )
)
# A script's numbers are exact up to here; and whoever writes to the stream writes no more than this into ours.
HIGHEST_VERSION = 2**53 - 1
LONGEST_SUBJECT = 64
BLOCK_MS = 1000
ABANDONED_MS = 5000

logger = logging.getLogger(__name__)


class UserEvents:
    def __init__(self, redis: Redis, revocations: Revocations) -> None:
        self._redis: Any = redis  # its types do not know that replies are decoded
        self._revocations = revocations

    async def run(self) -> None:
        while True:
            try:
                await self.round()
            except (RedisError, OSError, Unavailable) as failure:
                if isinstance(failure, ResponseError) and str(failure).startswith("NOGROUP"):
                    await self._create_group()
                    continue
                logger.warning("user events cannot be read: %s", type(failure).__name__)
                await asyncio.sleep(1)

    async def round(self) -> None:
        """One look at what was abandoned, then at what is new; acknowledged once its effect is durable."""
        _, abandoned, *_ = await self._redis.xautoclaim(
            STREAM, GROUP, CONSUMER, min_idle_time=ABANDONED_MS, start_id="0-0", count=100
        )
        for entry_id, fields in abandoned:
            await self._handle(entry_id, fields)
        fresh = await self._redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=100, block=BLOCK_MS)
        for _, entries in fresh or ():
            for entry_id, fields in entries:
                await self._handle(entry_id, fields)

    async def _handle(self, entry_id: str, fields: Mapping[str, str] | None) -> None:
        # An entry trimmed while pending has no fields; a refresh asks for the person's state anyway.
        if fields:
            try:
                await self._apply(entry_id, fields)
            except Unavailable as failure:
                if not isinstance(failure.__cause__, ResponseError):
                    raise
                # The server is there and cannot do it, for what it holds of this person: nobody else's event waits.
                logger.error(
                    "user event %s cannot be applied yet: %s", entry_id, type(failure.__cause__).__name__
                )
                return
        await self._redis.xack(STREAM, GROUP, entry_id)

    async def _apply(self, entry_id: str, fields: Mapping[str, str]) -> None:
        try:
            kind, subject = fields["type"], fields["sub"]
            cv, sessions_cv = _version(fields["cv"]), _version(fields["sessions_cv"])
            if len(subject) > LONGEST_SUBJECT:
                raise ValueError("the id is too long")
        except (KeyError, ValueError):
            logger.error("user event %s is malformed and was passed over", entry_id)
            return
        if kind == "user.created":
            return  # nobody can hold an older token
        ended = await self._revocations.revoke_subject(subject, cv, sessions_cv)
        if ended:
            reason = kind if kind in KINDS else "other"
            audit.record("sessions", "ended", reason, actor=audit.OURSELVES, subject=subject)

    async def _create_group(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as failure:
            if not str(failure).startswith("BUSYGROUP"):
                logger.warning("user events' group cannot be created: %s", failure)
                await asyncio.sleep(1)
        except (RedisError, OSError):
            await asyncio.sleep(1)


def _version(text: str) -> int:
    version = int(text)
    if not 0 <= version <= HIGHEST_VERSION:
        raise ValueError("no version")
    return version
