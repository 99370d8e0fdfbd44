"""Work that goes on beside the requests for as long as a service runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

Work = Callable[[], Awaitable[None]]

RESTART_SECONDS = 1.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(*works: Work) -> AsyncIterator[None]:
    """Run each by `run_forever` while the block runs."""
    tasks = [asyncio.create_task(run_forever(work)) for work in works]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until each has ended, however it ends.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, by which redis-py sends, can swallow a cancellation
    (python/cpython#86296), and then a service would wait for ever to stop.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def run_forever(work: Work) -> None:
    """Await it; if it fails, log that and start again, if it returns, it has nothing more to do."""
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("%s failed and starts again", getattr(work, "__qualname__", "background work"))
            await asyncio.sleep(RESTART_SECONDS)
