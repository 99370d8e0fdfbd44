"""A Redis client that asks once: whoever uses it knows better than the client when to ask again."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def connect_once(
    url: str, user: str, password: str | None, *, connect_seconds: float, seconds: float, **options: Any
) -> Redis:
    """`seconds` bound each response, and `options` are redis-py's."""
    return Redis.from_url(
        url,
        # Without a password the server has no users either (tests, a laptop's own Redis).
        username=user if password else None,
        password=password,
        socket_connect_timeout=connect_seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
