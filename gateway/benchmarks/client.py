"""A client connection that costs little: one request at a time, parsed by httptools."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools


class Connection(asyncio.Protocol):
    """Keep-alive, one request out at most; `answered` is told the status, or 0 if the connection was lost."""

    transport: asyncio.Transport

    def __init__(self, responded: Callable[["Connection", int], None]) -> None:
        self._record_response = responded
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def send(self, message: bytes) -> None:
        self._waiting = True
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._waiting = False
        self._record_response(self, self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._waiting = False
            self._record_response(self, 0)


def message(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
