"""uvicorn's HTTP protocol with the bounds that it lacks: who reaches a service need not come through the gateway."""

import asyncio
from collections import Counter
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 32 * 1024  # the gateway takes 16 KiB, and adds a few headers
HEAD_SECONDS: Final = 10.0
# Of the heads that have begun, in a process. One that comes in a piece, as the gateway sends it, is none of them.
BEGUN_BYTES_MAX: Final = 16 * 1024 * 1024
# Of one peer; several workers of a gateway have that many only when a service answers nobody.
PEER_CONNECTIONS_MAX: Final = 4096
_PIPELINED_MAX: Final = 16  # each is an object of some KB, and one read may hold ten thousand


class TooMuch(Exception):
    """Ends the parser, and so the connection."""


class BoundedProtocol(HttpToolsProtocol):
    """Cuts off a peer whose head is too long or takes too long, or that says nothing."""

    begun_bytes: ClassVar[int] = 0
    peers: ClassVar[Counter[str]] = Counter()  # connections of each

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun = 0  # bytes of a head whose end has not come
        self._peer = ""
        self._in_head = False
        self._heard = False  # any head
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self.peers[self._peer] += 1
        if self.peers[self._peer] > PEER_CONNECTIONS_MAX:
            transport.abort()
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        self.peers[self._peer] -= 1
        if not self.peers[self._peer]:
            del self.peers[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._begun += len(data)
            BoundedProtocol.begun_bytes += len(data)
            if self._begun > HEAD_BYTES_MAX or BoundedProtocol.begun_bytes > BEGUN_BYTES_MAX:
                self.transport.abort()
                return
        # Empty lines count as the beginning of a head: they would renew the time of a peer that says nothing.
        if self._head_timer is None and (self._in_head or not self._heard or self.cycle.response_complete):
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._head_is_over()
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise TooMuch("too many requests at once")
        self._heard = True
        super().on_headers_complete()

    def _head_is_over(self) -> None:
        self._in_head = False
        BoundedProtocol.begun_bytes -= self._begun
        self._begun = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
