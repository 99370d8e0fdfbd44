"""Following the issuer's revocation stream, and proving that all of it is known."""

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import Any

from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from service_kit.jwks import KeyCache
from service_kit.redis_client import connect_once
from service_kit.replication import Replication
from service_kit.revocations import Revocations
from service_kit.stream import EntryId, Reply, StreamReader

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


class NotPrimary(RedisError):
    """The address leads to a replica."""


class Follower:
    """Keeps Revocations in step with the stream, and keys with its epoch."""

    def __init__(self, redis: Redis, revocations: Revocations, keys: KeyCache, replicas: int = 0) -> None:
        self._redis = redis
        self._revocations = revocations
        self._reader = StreamReader(revocations, keys, replicas)
        self._connected_at = time.monotonic()
        self._stays = False  # no second connection could be opened

    @property
    def unready(self) -> str | None:
        """None once all revocations were known, else the reason why not yet."""
        return self._reader.unready

    async def run(self) -> None:
        """Follow until cancelled. A round without an answer only lets staleness grow."""
        failures = 0
        while True:
            try:
                reply = await self._ask()
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
                again = self._reader.take(reply)
                # Only where an answer came: the next one tells whether the clock was right.
                self._revocations.expire(time.time())
                if not again:
                    await asyncio.sleep(_BLOCK_WHILE_CATCHING_UP)
                # A failover may cut no connection: whoever stays on the former primary hears nothing more, and no error.
                if time.monotonic() - self._connected_at > _RECONNECT:
                    await self._renew_connection()
            staleness_seconds.set(self._revocations.staleness(time.time()))

    async def _renew_connection(self) -> None:
        """Leave the connection once another has answered: a server whose connections somebody has taken, all of them,
        gives no second one."""
        self._connected_at = time.monotonic()
        pool: Any = self._redis.connection_pool  # its types say nothing of what it gives
        present = await pool.get_connection()
        try:
            successor = await pool.get_connection()
            try:
                await successor.send_command("PING")
                await successor.read_response()
            except BaseException:
                await successor.disconnect(nowait=True)
                await pool.release(successor)
                raise
        except (RedisError, OSError) as error:
            logger.log(
                logging.DEBUG if self._stays else logging.WARNING,
                "revocations are followed over the connection that is open, as there is no other: %s",
                error,
            )
            self._stays = True
            await pool.release(present)
            return
        self._stays = False
        await present.disconnect(nowait=True)
        await pool.release(present)
        await pool.release(successor)  # the last one is taken first

    async def _leave_connection(self) -> None:
        self._connected_at = time.monotonic()
        # It complains when closing takes long, as it may in a busy process; nothing stays open.
        with suppress(RedisError):
            await self._redis.connection_pool.disconnect()

    async def _ask(self) -> Reply:
        began, clock = time.time(), time.time() - time.monotonic()
        block = _BLOCK if self._reader.reading_on else _BLOCK_WHILE_CATCHING_UP
        # One after the other on one connection, but no MULTI, inside which nothing blocks: the epoch, the last id and
        # the replication's state are read after the entries, so they vouch for them.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xread({STREAM: str(self._reader.cursor)}, count=1000, block=int(block * 1000))
        pipeline.get(EPOCH)
        pipeline.xinfo_stream(STREAM)
        pipeline.info("replication")
        read, epoch, info, replication = await pipeline.execute(raise_on_error=False)
        if isinstance(info, ResponseError) and "no such key" in str(info):
            info = None
        for reply in (read, epoch, info, replication):
            if isinstance(reply, Exception):
                raise reply
        state = Replication.read(replication)
        if not state.is_primary:
            # An empty replica knows no epoch, and a replica that lost its primary learns nothing: neither is an answer.
            await self._leave_connection()
            raise NotPrimary("the server is no primary")
        last = EntryId.read(info["last-generated-id"]) if info is not None else None
        return Reply(began, read[0][1] if read else [], epoch, last, state, clock)


def connect(url: str, user: str, password: str | None) -> Redis:
    """A client for the follower alone: it waits as long as a round may take."""
    return connect_once(
        url,
        user,
        password,
        connect_seconds=1.0,
        seconds=_BLOCK + 1.0,
        decode_responses=True,
        encoding_errors="replace",
        # The ACL user may read one stream and one key: ask for nothing else on connecting.
        protocol=2,
        driver_info=None,
    )
