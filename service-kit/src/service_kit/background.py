"""Work that goes on beside the requests for as long as a service runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

Work = Callable[[], Awaitable[None]]

RESTART_SECONDS = 1.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(*works: Work) -> AsyncIterator[None]:
    """Run them while the block runs; one that fails is logged and starts again, one that returns has nothing to do."""
    tasks = [asyncio.create_task(_always(work)) for work in works]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until each has ended, however it ends.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, by which redis-py sends, can swallow a cancellation
    (python/cpython#86296), and then a service would wait for ever to stop.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def _always(work: Work) -> None:
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("%s failed and starts again", getattr(work, "__qualname__", "background work"))
            await asyncio.sleep(RESTART_SECONDS)
