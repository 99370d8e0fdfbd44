"""The one relay: committed events go from the outbox to the Redis stream, oldest first, at least once.

It reads a batch by id, adds it to the stream with no transaction open, and deletes those ids once Redis and a replica
of it, if there are any, have them on disk. It keeps no cursor: an id that commits later than a higher one is simply in
the next batch. Ids are in commit order per person, so first deliveries are too; what is sent twice carries the same id.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import create_engine
from user_service.events import repository
from user_service.events.stream import Stream

log = logging.getLogger(__name__)

BATCH: Final = 200
# How soon an event of another process is seen; those of our own wake us.
LOOK_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 1.0
# How long to stand in line for the lock at a time: less than a statement may take (see create_engine).
IN_LINE_SECONDS: Final = 2
TIDY_SECONDS: Final = 5.0
# The server drops a silent relay's connection, and its lock: its machine is gone without a word, or its process stands.
SILENCE_SECONDS: Final = 5

WAITING = Gauge(
    "user_events_waiting", "Committed events not yet in the stream", multiprocess_mode="mostrecent"
)
LAG = Gauge("user_events_lag_seconds", "Age of the oldest such event", multiprocess_mode="mostrecent")
LENGTH = Gauge("user_events_stream_length", "Entries in the stream", multiprocess_mode="mostrecent")


class Relay:
    """Runs in every worker; the one that holds the lock works, the others stand in line for it."""

    def __init__(self, url: URL, stream: Stream, committed: asyncio.Event) -> None:
        """`committed` is set with every commit of this process."""
        self._url = url
        self._stream = stream
        self._committed = committed
        self._tidied = 0.0
        self._failing = False

    async def run(self) -> None:
        while True:
            try:
                async with self._connection() as connection:
                    await self._take_lock(connection)
                    log.info("event relay holds the lock")
                    await self._work(connection)
            except Exception as error:  # noqa: BLE001 - a relay that ended would tell nobody anything any more
                # Of a series of failures the first line is enough.
                level = logging.DEBUG if self._failing else logging.WARNING
                log.log(level, "event relay waits, reason=%s", type(error).__name__)
                self._failing = True
            await asyncio.sleep(AGAIN_SECONDS)

    async def _work(self, connection: AsyncConnection) -> None:
        while True:
            self._committed.clear()
            if await self.deliver(connection) < BATCH:
                await self._tidy()
                self._failing = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._committed.wait()

    async def deliver(self, connection: AsyncConnection) -> int:
        """Move one batch; how many events it had."""
        events = await repository.oldest(connection, BATCH)
        more = len(events) == BATCH
        WAITING.set(await repository.newest_id(connection) - events[0].id + 1 if more else len(events))
        LAG.set((datetime.now(UTC) - events[0].at).total_seconds() if events else 0.0)
        if events:
            await self._stream.add(events)
            await repository.remove(connection, [event.id for event in events])
        return len(events)

    async def _tidy(self) -> None:
        if time.monotonic() - self._tidied < TIDY_SECONDS:
            return
        self._tidied = time.monotonic()
        await self._stream.trim()
        LENGTH.set(await self._stream.length())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        # Of its own, and closed for good afterwards: the lock lives exactly as long as the connection.
        engine = create_engine(self._url, pool_size=1)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()

    async def _take_lock(self, connection: AsyncConnection) -> None:
        if connection.dialect.name != "mysql":
            return  # two relays repeat events, which is allowed; SQLite serves one process anyway
        await connection.execute(text(f"SET SESSION wait_timeout = {SILENCE_SECONDS}"))
        name = "CONCAT('user-service:relay:', LEFT(SHA2(DATABASE(), 256), 32))"
        wait = text(f"SELECT GET_LOCK({name}, {IN_LINE_SECONDS})")
        while not (taken := (await connection.execute(wait)).scalar()):
            if taken is None:
                # The server's error, told at once: asked again without a pause it would be a busy loop.
                raise ConnectionError("the server gives no lock")
