"""The gunicorn worker that loads our own HTTP protocol into uvicorn, and accepts from front where there is one."""

import asyncio
import socket
from functools import partial
from types import FrameType
from typing import Any, ClassVar
from weakref import WeakSet

from uvicorn import Config

from gateway.edge import Edge
from gateway.front import Front
from gateway.listener import Listener
from service_kit import background
from service_kit.worker import DrainingServer
from service_kit.worker import Worker as KitWorker


class Server(DrainingServer):
    """As every service's, which also accepts from the socket that front passes on."""

    def __init__(self, config: Config, drain_seconds: float, born: int) -> None:
        super().__init__(config, drain_seconds, born)
        self._listener: Listener | None = None
        self._listening: asyncio.Task[None] | None = None
        self._taken: WeakSet[Edge] = WeakSet()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        front: Front = self.lifespan.state["front"]
        self._listener = front.listener
        if self._listener is not None:
            listen = partial(self._listener.run, self._accept, partial(self._drop, front))
            self._listening = asyncio.create_task(background.always(listen))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._listener is not None:
            self._listener.leave()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._listening is not None:
            await background.end([self._listening])
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> asyncio.Server:
        config = self.config
        return await asyncio.get_running_loop().create_server(
            self._take, sock=listener, ssl=config.ssl, backlog=config.backlog
        )

    def _take(self) -> Edge:
        edge = Edge(self.config, self.server_state, self.lifespan.state)
        self._taken.add(edge)
        return edge

    def _drop(self, front: Front) -> None:
        for edge in [edge for edge in front.edges if edge in self._taken]:
            edge.hang_up()


class Worker(KitWorker):
    """As every service's, but that connections are ours from their first byte."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = KitWorker.CONFIG_KWARGS | {"http": Edge}

    def make_server(self, drain_seconds: float, born: int) -> Server:
        return Server(self.config, drain_seconds, born)
