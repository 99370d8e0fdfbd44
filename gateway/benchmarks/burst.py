"""Requests that all come at once, to an upstream that takes one second: the time until the last answer."""

import asyncio
from statistics import median

import uvloop

from benchmarks.client import Connection, message
from benchmarks.load import Spoilt
from benchmarks.targets import Target
from benchmarks.tokens import TokenMaker


def measure(gateway: Target, tokens: TokenMaker, rounds: int, requests: int) -> dict[str, float]:
    walls = [uvloop.run(_burst(gateway.port, tokens.token(), requests)) for _ in range(rounds)]
    return {"requests": requests, "wall_seconds": median(walls), "worst_wall_seconds": max(walls)}


async def _burst(port: int, token: str, requests: int) -> float:
    """Each on a connection of its own; connecting is part of the time."""
    loop = asyncio.get_running_loop()
    statuses: list[int] = []
    finished = loop.create_future()

    def responded(connection: Connection, status: int) -> None:
        connection.transport.close()
        statuses.append(status)
        if len(statuses) == requests:
            finished.set_result(None)

    async def request() -> None:
        _, connection = await loop.create_connection(lambda: Connection(responded), "127.0.0.1", port)
        connection.send(message("/v1/slow/1", token))

    started = loop.time()
    async with asyncio.timeout(30):
        await asyncio.gather(*(request() for _ in range(requests)))
        await finished
    if set(statuses) != {200}:
        raise Spoilt(
            f"of {requests:,} requests at once, {requests - statuses.count(200):,} were not answered 200"
        )
    return loop.time() - started
