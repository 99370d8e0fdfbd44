"""How many connections each Redis server holds, of how many it accepts: whoever has a password may open them all."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from prometheus_client import Gauge

from auth_service.exceptions import Unavailable
from auth_service.store import Store

EVERY_SECONDS: Final = 15.0

logger = logging.getLogger(__name__)
held = Gauge("redis_connections", "Connections to a Redis server.", ["server"], multiprocess_mode="livemax")
most = Gauge(
    "redis_connections_limit", "What a Redis server accepts.", ["server"], multiprocess_mode="livemax"
)


async def watch_connections(stores: Mapping[str, Store]) -> None:
    """Asks over connections that are open already, so that it learns of those that are refused; until cancelled."""
    while True:
        for server, store in stores.items():
            try:
                await look(server, store)
            except Unavailable:
                logger.warning("%s was not asked how many connections it has left", server)
        await asyncio.sleep(EVERY_SECONDS)


async def look(server: str, store: Store) -> None:
    async with store.connection() as redis:
        clients = await redis.info("clients")
    held.labels(server).set(clients["connected_clients"])
    most.labels(server).set(clients["maxclients"])
