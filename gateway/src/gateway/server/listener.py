"""The listening socket that front passes on: accepted from until another gateway is there, and asked for again when front
is gone."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway import tcp
from service_kit.health import Check

_AGAIN_SECONDS: Final = 0.1
# What deploy/front/front.py is told.
_READY: Final = b"+"
_LEAVING: Final = b"-"

logger = logging.getLogger(__name__)


Accept = Callable[[socket.socket], Awaitable[asyncio.AbstractServer]]


class Listener:
    """A worker's share in the socket. Front passes it to those who are ready, to the others only if there are none."""

    def __init__(self, path: Path, checks: Sequence[Check], vanished_seconds: float) -> None:
        self._path = path
        self._checks = checks
        self._vanished_seconds = vanished_seconds
        self._accepting = False
        self._leaving = asyncio.Event()

    async def check(self) -> str | None:
        """As `health.router` asks: nobody comes to a worker that does not have it."""
        return None if self._accepting or self._leaving.is_set() else "front has not passed its socket on"

    def leave(self) -> None:
        """Accepts no more as soon as another worker does."""
        self._leaving.set()

    async def run(self, accept: Accept, drop: Callable[[], None]) -> None:
        """Has `accept` take connections from it. When front is gone, so is their network: they are to `drop`."""
        while not self._leaving.is_set():
            with suppress(OSError), socket.socket(socket.AF_UNIX) as front:
                front.setblocking(False)
                await asyncio.get_running_loop().sock_connect(front, str(self._path))
                if await self._share(front, accept) and not self._leaving.is_set():
                    logger.warning("front is gone, and its connections with it: asking until it is back")
                    drop()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _share(self, front: socket.socket, accept: Accept) -> bool:
        """Until front is gone or lets go of us; False if it went before it passed the socket on."""
        telling = asyncio.create_task(self._tell(front))
        try:
            await _readable(front)
            _, passed, _, _ = socket.recv_fds(front, 1, 1)
            if not passed:
                return False
            listener = socket.socket(fileno=passed[0])
            tcp.tune_listener(listener, self._vanished_seconds)
            accepting = await accept(listener)
            logger.info("accepting what comes to front")
            self._accepting = True
            try:
                await _readable(front)
            finally:
                self._accepting = False
                accepting.close()
            return True
        finally:
            telling.cancel()

    async def _ready(self) -> bool:
        return not any([await check() for check in self._checks])

    async def _tell(self, front: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while not (await self._ready() or self._leaving.is_set()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN_SECONDS):
                        await self._leaving.wait()
            if not self._leaving.is_set():
                await loop.sock_sendall(front, _READY)
            await self._leaving.wait()
            await loop.sock_sendall(front, _LEAVING)


async def _readable(connection: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
