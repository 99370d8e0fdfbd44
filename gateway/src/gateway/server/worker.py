"""The gunicorn worker that loads our own HTTP protocol into uvicorn, and accepts from front where there is one."""

import asyncio
import socket
from functools import partial
from types import FrameType
from typing import Any, ClassVar
from weakref import WeakSet

from uvicorn import Config

from gateway.server.client_connection import ClientConnection
from gateway.server.listener import Listener
from gateway.server.worker_state import WorkerState
from service_kit import background
from service_kit.worker import DrainingServer
from service_kit.worker import Worker as KitWorker


class Server(DrainingServer):
    """As every service's, which also accepts from the socket that front passes on."""

    def __init__(self, config: Config, drain_seconds: float, born: int) -> None:
        super().__init__(config, drain_seconds, born)
        self._listener: Listener | None = None
        self._listening: asyncio.Task[None] | None = None
        self._taken: WeakSet[ClientConnection] = WeakSet()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        state: WorkerState = self.lifespan.state["worker_state"]
        self._listener = state.listener
        if self._listener is not None:
            listen = partial(self._listener.run, self._accept, partial(self._drop, state))
            self._listening = asyncio.create_task(background.run_forever(listen))

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

    def _take(self) -> ClientConnection:
        connection = ClientConnection(self.config, self.server_state, self.lifespan.state)
        self._taken.add(connection)
        return connection

    def _drop(self, state: WorkerState) -> None:
        for connection in [connection for connection in state.open_connections if connection in self._taken]:
            connection.abort()


class Worker(KitWorker):
    """As every service's, but that connections are ours from their first byte."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = KitWorker.CONFIG_KWARGS | {"http": ClientConnection}

    def make_server(self, drain_seconds: float, born: int) -> Server:
        return Server(self.config, drain_seconds, born)
