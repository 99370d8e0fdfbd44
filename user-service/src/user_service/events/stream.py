"""The Redis stream `users`, which other services read: this service adds to it and trims it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from user_service.events.models import Event

KEY: Final = "users"
DURABLE_MS: Final = 500
ADMISSION_SECONDS: Final = 0.5


class NotDurable(Exception):
    """What was added may be lost with the server that has it."""


class Stream:
    def __init__(self, redis: Redis, replicas: int = 0) -> None:
        """`replicas`: how many should have an event on disk before it counts; one of them must."""
        self._redis = redis
        self._replicas = replicas
        self._admitted = False

    async def unready(self) -> str | None:
        """The reason why a start is of no use: the server refuses the password, or there is none.

        Once admitted it is None for good, and while the server does not answer: events then wait in the outbox.
        """
        if not self._admitted:
            try:
                async with asyncio.timeout(ADMISSION_SECONDS):
                    await self.length()
            except (AuthenticationError, NoPermissionError):
                return "the events' Redis refuses the user or the password"
            except (RedisError, OSError, TimeoutError):
                return None
            self._admitted = True
        return None

    async def add(self, events: Sequence[Event]) -> None:
        """All of them in order, or none: half a batch would put a later event before an earlier one.

        Returns once they are on disk, here and at a replica if there are any.
        """
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                # Asked once before, so that a server that keeps nothing on disk is not sent the same events again and
                # again.
                await self._on_disk(pipeline)
                pipeline.execute_command("MULTI")
                for event in events:
                    pipeline.xadd(KEY, event.fields())  # type: ignore[arg-type] # its dict is invariant
                pipeline.execute_command("EXEC")
                await self._on_disk(pipeline)
        except (NotDurable, RedisError, OSError):
            # It may be a primary that a failover has left behind: the next connection resolves the name anew.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise

    async def _on_disk(self, pipeline: Pipeline) -> None:
        """Send what the pipeline holds, and wait: WAITAOF speaks of the writes of its own connection."""
        pipeline.execute_command("WAITAOF", 1, self._replicas, DURABLE_MS)
        local, replicated = (await pipeline.execute())[-1]
        if local < 1 or replicated < min(self._replicas, 1):
            raise NotDurable

    async def length(self) -> int:
        return int(await self._redis.xlen(KEY))

    async def trim(self) -> None:
        """Drop what every consumer group has acknowledged; with no group yet, nothing."""
        if not await self._redis.xlen(KEY):
            return
        state: dict[str, Any] = await self._redis.execute_command(  # type: ignore[no-untyped-call] # no method takes FULL with COUNT
            "XINFO STREAM", KEY, "FULL", "COUNT", 1, full=True
        )
        needed = [_oldest_needed(group) for group in state["groups"]]
        if needed:
            await self._redis.xtrim(KEY, minid=_lowest(needed), approximate=True)


def _oldest_needed(group: dict[str, Any]) -> str:
    """The first id a group has not acknowledged, else the last one delivered to it."""
    if group["pel-count"]:
        return _text(group["pending"][0][0])
    return _text(group["last-delivered-id"])


def _lowest(ids: list[str]) -> str:
    return min(ids, key=lambda one: tuple(int(part) for part in one.split("-")))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
