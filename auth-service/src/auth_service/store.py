"""The Redis that holds sessions, keys and revocations: its connections, their timeouts, its atomic acts."""

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from auth_service.exceptions import Unavailable

logger = logging.getLogger(__name__)


class StoreUnavailable(Unavailable):
    """Redis did not answer, or not durably: what was asked may have happened, and may be asked again."""

    code = "store_unavailable"
    title = "The session store does not answer"


def connect(url: str, user: str, password: str | None, *, timeout: float, connections: int = 32) -> Redis:
    """A client that fails fast, from a bounded pool.

    A connection found dead is replaced once: every script may run twice, since a rotation asked for again within the
    grace gets the same successor. A silent server is not asked a second time.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        # Without a password the server has no users either (tests, a laptop's own Redis).
        username=user if password else None,
        password=password,
        decode_responses=True,
        socket_connect_timeout=min(timeout, 0.5),
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        max_connections=connections,
        timeout=timeout,
    )
    return Redis.from_pool(pool)


class Script:
    """A Lua script in files of this package, run by its digest."""

    def __init__(self, *paths: str) -> None:
        self.text = "\n".join(files("auth_service").joinpath(path).read_text() for path in paths)
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Store:
    def __init__(self, redis: Redis, replicas: int = 0) -> None:
        self._redis = redis
        self._replicas = replicas

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[Any]:
        """The client (its types do not know that replies are decoded), its failures said in one way."""
        try:
            yield self._redis
        except (RedisError, OSError) as failure:
            logger.warning("the session store failed: %s", type(failure).__name__)
            if isinstance(failure, ReadOnlyError):
                await self.reconnect()
            raise StoreUnavailable from failure

    async def run(self, script: Script, *, durable: bool = False, **arguments: Any) -> Any:
        """One atomic act; `durable`: with replicas, it counts only once one of them has it on disk too."""
        # A cjson number is a double: milliseconds since 1970 stay exact.
        given = {name: value for name, value in arguments.items() if value is not None}
        payload = json.dumps({**given, "clock": int(time.time() * 1000)})
        async with self.answering() as redis:
            if durable and self._replicas:
                return await self._run_durably(redis, script, payload)
            try:
                return await redis.execute_command("EVALSHA", script.digest, 0, payload)
            except NoScriptError:
                return await redis.execute_command("EVAL", script.text, 0, payload)

    async def _run_durably(self, redis: Any, script: Script, payload: str) -> Any:
        # WAITAOF counts the writes of its own connection only, so both travel in one pipeline.
        async with redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("EVAL", script.text, 0, payload)
            pipe.execute_command("WAITAOF", 1, 1, 500)
            answer, (local, replicated) = await pipe.execute()
        if local < 1 or replicated < 1:
            await self.reconnect()  # this may be a primary that a failover has left behind
            raise StoreUnavailable
        return answer

    async def reconnect(self) -> None:
        """Drop every idle connection, so that the next one resolves the name again."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        await self._redis.aclose()
