"""As much HTTP/1.1 as asking one service takes: a question, its answer, over connections that are kept.

A general client costs a sign-in more of our time than everything else that we do for it.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from service_kit import strict_json

LARGEST_ANSWER = 1024 * 1024
KEPT_SECONDS = 4.0  # shorter than uvicorn keeps an idle connection


class NoAnswer(Exception):
    """The exchange failed; what was asked may have been done."""


class _Closed(NoAnswer):
    """A kept connection was closed just as it was used again."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return strict_json.decode(self.body)


class Client:
    """Asks one origin. Whoever is cancelled, or runs out of time, leaves no connection behind."""

    def __init__(self, url: str, connect_timeout: float) -> None:
        origin = urlsplit(url)
        self._host = origin.hostname or ""
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        self._authority = origin.netloc
        self._connect_timeout = connect_timeout
        self._idle: list[_Connection] = []

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        """Waits for as long as the caller lets it; raises NoAnswer. A question must bear being asked twice."""
        request = self._written(method, path, headers, body)
        connection = self._kept()
        if connection is not None:
            try:
                return await self._exchanged(connection, request)
            except _Closed:
                pass
        return await self._exchanged(await self._connected(), request)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _written(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        fields = {"host": self._authority, "accept": "application/json", **headers}
        if content:
            fields |= {"content-type": "application/json", "content-length": str(len(content))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + content

    def _kept(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < KEPT_SECONDS:
                return connection
            connection.close()
        return None

    async def _connected(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls
                )
        except (OSError, UnicodeError) as failure:  # the latter: a label too long for a name
            raise NoAnswer(f"no connection: {type(failure).__name__}") from failure
        return connection

    async def _exchanged(self, connection: "_Connection", request: bytes) -> Answer:
        answer = await connection.exchange(request)
        if connection.open:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return answer


class _Connection(asyncio.Protocol):
    """One exchange at a time, read by llhttp."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._heard = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self.idle_since = 0.0

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes) -> Answer:
        self._heard, self._headers, self._body = 0, {}, bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            if not self.open:
                raise _Closed
            cast("asyncio.Transport", self._transport).write(request)
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._answer is None or self._answer.done():
            self.close()  # surplus: the next answer could be taken for another's
        elif self._heard > LARGEST_ANSWER:
            self._answer.set_exception(NoAnswer("it is too large"))
        else:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                if not self._answer.done():
                    self._answer.set_exception(NoAnswer(f"it cannot be read: {type(error).__name__}"))
                self.close()

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer("the connection was lost") if self._heard else _Closed())

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # surplus, in one piece with the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # interim: the answer is still to come
            self._headers = {}
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(status, self._headers, bytes(self._body)))
