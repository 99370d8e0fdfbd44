"""Following the issuer's revocation stream, and proving that all of it is known."""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service_kit.jwks import KeyCache
from service_kit.revocations import Revocation, Revocations

STREAM = "auth:revocations"
EPOCH = "auth:epoch"

_BLOCK = 1.0
_BLOCK_WHILE_CATCHING_UP = 0.1
_RECONNECT = 5.0

logger = logging.getLogger(__name__)
staleness_seconds = Gauge(
    "revocations_staleness_seconds",
    "Time since it was last proven that every revocation is known.",
    multiprocess_mode="livemax",
)


class EntryId(NamedTuple):
    """A stream entry's id."""

    milliseconds: int
    sequence: int

    @classmethod
    def read(cls, text: str) -> "EntryId":
        """From Redis's `milliseconds-sequence`."""
        milliseconds, sequence = text.split("-")
        return cls(int(milliseconds), int(sequence))

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


_BEGINNING = EntryId(0, 0)


@dataclass(frozen=True, slots=True)
class _Answer:
    entries: list[tuple[str, dict[str, str]]]
    epoch: str | None
    last: EntryId | None


class Follower:
    """Keeps Revocations in step with the stream, and keys with its epoch."""

    def __init__(self, redis: Redis, revocations: Revocations, keys: KeyCache) -> None:
        self._redis = redis
        self._revocations = revocations
        self._keys = keys
        self._cursor = _BEGINNING
        self._epoch: str | None = None
        self._reading_on = False
        self._restarted_for = ""  # why it reads from the beginning, while it does
        self._connected_at = time.monotonic()
        self.caught_up = False  # whether the stream was ever read to its end

    async def run(self) -> None:
        """Follow until cancelled. A round without an answer only lets staleness grow."""
        failures = 0
        while True:
            try:
                answer = await self._ask()
            except (RedisError, OSError, TimeoutError) as error:
                # Redis's messages hold no data of ours, but the first of a series is enough.
                logger.log(
                    logging.DEBUG if failures else logging.WARNING, "revocations not followed: %s", error
                )
                failures += 1
                await asyncio.sleep(min(0.05 * 2**failures, 1.0) * random.uniform(0.5, 1.0))  # noqa: S311
            else:
                if failures:
                    logger.info("revocations followed again after %d failures", failures)
                failures = 0
                if not self._take(answer):
                    await asyncio.sleep(_BLOCK_WHILE_CATCHING_UP)
                await self._leave_old_connection()
            now = time.time()
            self._revocations.expire(now)
            staleness_seconds.set(self._revocations.staleness(now))

    async def _leave_old_connection(self) -> None:
        """A failover may cut no connection: whoever stays on the former primary hears nothing more, and no error."""
        if time.monotonic() - self._connected_at > _RECONNECT:
            self._connected_at = time.monotonic()
            # It complains when closing takes long, as it may in a busy process; nothing stays open.
            with suppress(RedisError):
                await self._redis.connection_pool.disconnect()

    async def _ask(self) -> _Answer:
        block = _BLOCK if self._reading_on else _BLOCK_WHILE_CATCHING_UP
        # One after the other on one connection, but no MULTI, inside which nothing blocks: the epoch and the
        # last id are read after the entries, so they vouch for them.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xread({STREAM: str(self._cursor)}, count=1000, block=int(block * 1000))
        pipeline.get(EPOCH)
        pipeline.xinfo_stream(STREAM)
        read, epoch, info = await pipeline.execute(raise_on_error=False)
        if isinstance(info, ResponseError) and "no such key" in str(info):
            info = None
        for reply in (read, epoch, info):
            if isinstance(reply, Exception):
                raise reply
        last = EntryId.read(info["last-generated-id"]) if info is not None else None
        return _Answer(read[0][1] if read else [], epoch, last)

    def _take(self, answer: _Answer) -> bool:
        """Whether to go on at once."""
        if answer.epoch is None or answer.last is None:
            self._start_over("the epoch or the stream is missing")
            return False
        if answer.epoch != self._epoch:
            self._start_over("a new epoch" if self._epoch else "the first epoch")
            self._epoch = answer.epoch
            self._keys.drop_all()
            return True
        if answer.last < self._cursor:
            self._start_over("the stream ends before what was read of it")
            return True
        for entry_id, fields in answer.entries:
            self._apply(fields)
            self._cursor = EntryId.read(entry_id)
        self._reading_on = not answer.entries or self._cursor >= answer.last
        if self._reading_on:
            # Nothing came although it was waited for: what lies between cursor and last id was trimmed.
            self._revocations.prove(time.time())
            self._restarted_for = ""
            self.caught_up = True
        return True

    def _start_over(self, why: str) -> None:
        if why != self._restarted_for:  # not once a round while it stays so
            logger.warning("revocations are read from the beginning: %s", why)
            self._restarted_for = why
        self._revocations.unprove()
        self._cursor = _BEGINNING
        self._reading_on = False

    def _apply(self, fields: Mapping[str, str]) -> None:
        try:
            revocation = _read(fields)
        except (KeyError, ValueError):
            # Malformed, or of a kind that is newer than this code.
            logger.warning(
                "an entry of the revocation stream is not understood and passed over: kind=%r",
                fields.get("kind"),
            )
            return
        if revocation is None or revocation.until <= time.time():
            return
        if revocation.kind == "key":
            self._keys.drop(revocation.value)
        self._revocations.add(revocation)


def _read(fields: Mapping[str, str]) -> Revocation | None:
    """KeyError or ValueError if malformed; None for an entry that revokes nothing."""
    match fields["kind"]:
        case "session":
            return Revocation("session", fields["sid"], int(fields["until"]))
        case "subject":
            return Revocation("subject", fields["sub"], int(fields["until"]), int(fields["cv"]))
        case "key":
            return Revocation("key", fields["kid"], int(fields["until"]))
        case "start":
            return None
        case _:
            raise ValueError("unknown kind")


def connect(url: str, user: str, password: str | None) -> Redis:
    """A client for the follower alone: it waits as long as a round may take, and no part of it tries again."""
    options: dict[str, Any] = {} if password is None else {"username": user, "password": password}
    return Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=1.0,
        socket_timeout=_BLOCK + 1.0,
        retry=Retry(NoBackoff(), 0),
        # The ACL user may read one stream and one key: ask for nothing else on connecting.
        protocol=2,
        driver_info=None,
        **options,
    )
