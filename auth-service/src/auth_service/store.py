"""The Redis that holds sessions, keys and revocations: its connections, their timeouts, its atomic acts."""

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as Silence

from auth_service.exceptions import Unavailable

RENEWED_EVERY = 5.0  # seconds

logger = logging.getLogger(__name__)


class StoreUnavailable(Unavailable):
    """Redis did not answer, or not durably: what was asked may have happened, and may be asked again."""

    code = "store_unavailable"
    title = "The session store does not answer"


def connect(
    url: str, user: str, password: str | None, *, timeout: float, connections: int = 32, replicas: int = 0
) -> Redis:
    """A client that fails fast, from a bounded pool. With replicas its connections are renewed now and then.

    A connection found dead is replaced once: every script may run twice, since a rotation asked for again within the
    grace gets the same successor. A silent server is not asked a second time.
    """
    pool = _Pool.from_url(
        url,
        # Without a password the server has no users either (tests, a laptop's own Redis).
        username=user if password else None,
        password=password,
        decode_responses=True,
        encoding_errors="replace",  # what cannot be read is a record to refuse, no fault of ours
        socket_connect_timeout=0.8 * timeout,  # who gets no connection at all is told within `timeout`
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        max_connections=connections,
        timeout=timeout / 2,  # for a free one
        driver_info=None,  # saves two questions on every new connection
    )
    age = {"oldest": RENEWED_EVERY if replicas else math.inf}
    pool.connection_class = type("OurConnection", (_Connection, pool.connection_class), age)
    return Redis.from_pool(pool)


class _Pool(BlockingConnectionPool):
    """redis-py's, but a connection comes back to it also from somebody who is cancelled while giving it back."""

    async def release(self, connection: Any) -> None:
        await asyncio.shield(super().release(connection))


class _Connection:
    """What ours do otherwise than redis-py's. With replicas one is made anew now and then: a failover may move the name
    without cutting what is open.
    """

    oldest = math.inf
    renewed_after = 0.0  # of its pool: whatever was connected before is left
    _made = 0.0

    async def connect(self) -> None:
        """Called by the pool before each use, so that nobody is talking over it."""
        this: Any = super()
        now = time.monotonic()
        if this.is_connected and self._made < max(self.renewed_after, now - self.oldest):
            await this.disconnect(nowait=True)
        if not this.is_connected:
            self._made = now
        await this.connect()

    async def disconnect(self, nowait: bool = False, **reasons: Any) -> None:
        """Wait for nobody: in a busy process closing takes long, then redis-py raises, here or in another task."""
        this: Any = super()
        await this.disconnect(nowait=True, **reasons)

    async def send_packed_command(self, command: Iterable[bytes], check_health: bool = True) -> None:
        """Writes without a time limit, which would cost a task each time: what we ask fits into a socket's buffer."""
        this: Any = self
        if not this.is_connected:
            await self.connect()
        try:
            this._writer.writelines(command)
        except RuntimeError as error:
            # uvloop's word for a connection that was reset a moment ago: one to replace, as every lost one.
            await self.disconnect()
            raise ConnectionLost("closed as it was written to") from error


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
    async def connection(self) -> AsyncIterator[Any]:
        """The client (its types do not know that replies are decoded), its failures said in one way."""
        try:
            yield self._redis
        except (RedisError, OSError) as failure:
            logger.warning("Redis did not do what was asked: %s", type(failure).__name__)
            if _left_behind(failure):
                self.reconnect()
            raise StoreUnavailable from failure

    async def run(self, script: Script, *, durable: bool = False, **arguments: Any) -> Any:
        """One atomic act; `durable`: with replicas, it counts only once one of them has it on disk too."""
        # A cjson number is a double: milliseconds since 1970 stay exact.
        present = {name: value for name, value in arguments.items() if value is not None}
        payload = json.dumps({**present, "clock": int(time.time() * 1000)})
        if durable and self._replicas:
            response, *_ = await self._durably(("EVAL", script.text, 0, payload))
            return response
        async with self.connection() as redis:
            try:
                return await redis.execute_command("EVALSHA", script.digest, 0, payload)
            except NoScriptError:
                return await redis.execute_command("EVAL", script.text, 0, payload)

    async def wait_durable(self) -> None:
        """Returns once everything written until now is as durable as `run(durable=True)` makes it."""
        if self._replicas:
            await self._durably()

    async def _durably(self, *commands: tuple[Any, ...]) -> list[Any]:
        async with self.connection() as redis, redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            # WAITAOF waits for the writes of its own connection, and for what came before them. So there must be one:
            # a repeated act may find nothing left to do, and what it did before is still on its way.
            pipe.execute_command("SET", "auth:written", "")
            pipe.execute_command("WAITAOF", 1, 1, 500)
            responses: list[Any] = await pipe.execute()
        local, replicated = responses[-1]
        if local < 1 or replicated < 1:
            self.reconnect()  # this may be a primary that a failover has left behind
            raise StoreUnavailable
        return responses

    def reconnect(self) -> None:
        """Use no connection again that is open now: the next one resolves the name anew."""
        connections: Any = self._redis.connection_pool.connection_class
        connections.renewed_after = time.monotonic()

    async def close(self) -> None:
        await self._redis.aclose()


def _left_behind(failure: Exception) -> bool:
    """Whether that may be the word, or the silence, of a server that is primary no more."""
    return isinstance(failure, ReadOnlyError | Silence) or str(failure).startswith("NOREPLICAS")
