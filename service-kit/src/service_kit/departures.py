"""Not working for a caller who has left."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from service_kit import background

__all__ = ["ClientDisconnect", "WhileConnected", "arrive", "while_connected"]

T = TypeVar("T")


class WhileConnected(Protocol):
    """`while_connected` for one request, as those are given it who know no requests."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> Awaitable[T]: ...


async def arrive() -> None:
    """Before a request's body is read: reading it then raises ClientDisconnect if the caller has left already.

    A worker that is behind reads the request in one turn of its event loop, the end of the stream in the next, and then
    tells its protocol.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled once the caller has left; then ClientDisconnect.

    For work that waits its turn and may end at any moment. The request's body must have been read.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await background.end((working, leaving))


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
