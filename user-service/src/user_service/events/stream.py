"""The Redis stream `users`, which other services read: this service adds to it and trims it."""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from user_service.events.models import Event

KEY: Final = "users"


class Stream:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, events: Sequence[Event]) -> None:
        """All of them in order, or none: half a batch would put a later event before an earlier one."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for event in events:
                pipeline.xadd(KEY, event.fields())  # type: ignore[arg-type] # its dict is invariant
            await pipeline.execute()

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
