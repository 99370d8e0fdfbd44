"""As much HTTP/1.1 as asking one service takes: a question, its answer, over connections that are kept.

A general client costs a sign-in more of our time than everything else that we do for it.
"""

import asyncio
import json
import logging
import math
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from service_kit import strict_json
from service_kit.resolver import resolve_host

LARGEST_RESPONSE = 1024 * 1024
KEPT_SECONDS = 4.0  # shorter than uvicorn keeps an idle connection
RESOLVE_SECONDS = 2.0
AVOIDED_SECONDS = 5.0  # for which an address that failed is tried last
MOST_TRIES = 3
MOST_CONNECT_SECONDS = 0.8

logger = logging.getLogger(__name__)


class NoResponse(Exception):
    """The exchange failed; what was asked may have been done."""


class _NotConnected(NoResponse):
    """Nothing was asked."""


class _Closed(NoResponse):
    """The connection was closed without a byte of an answer."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return strict_json.decode(self.body)


class Client:
    """Asks one origin, at each address that its name has. Whoever is cancelled, or runs out of time, leaves no
    connection behind."""

    def __init__(self, url: str, timeout: float) -> None:
        context = urlsplit(url)
        self._host = context.hostname or ""
        self._port = context.port or (443 if context.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if context.scheme == "https" else None
        self._authority = context.netloc
        self._timeout = timeout
        self._addresses: dict[str, _Address] = {}
        self._resolve_at = 0.0
        self._resolving: asyncio.Task[None] | None = None

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Response:
        """Waits for as long as the caller lets it; raises NoAnswer. A question must bear being asked twice."""
        request = self._written(method, path, headers, body)
        failure: NoResponse = _NotConnected("no address")
        for address in await self._in_order():
            try:
                return await address.exchange(request)
            except (_NotConnected, _Closed) as failed:
                failure = failed
        raise failure

    @property
    def failing(self) -> bool:
        """Whether no address is left that did not fail lately."""
        now = time.monotonic()
        return all(address.failed_lately(now) for address in self._addresses.values())

    def close(self) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
        for address in self._addresses.values():
            address.close()

    def _written(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        fields = {"host": self._authority, "accept": "application/json", **headers}
        if content:
            fields |= {"content-type": "application/json", "content-length": str(len(content))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + content

    async def _in_order(self) -> "Sequence[_Address]":
        """The addresses to try: those that failed lately last, else the one with the fewest questions under way."""
        if time.monotonic() >= self._resolve_at and self._resolving is None:
            self._resolving = asyncio.create_task(self._resolve())
        if not self._addresses and self._resolving is not None:
            await asyncio.shield(self._resolving)
        now = time.monotonic()
        return sorted(self._addresses.values(), key=lambda address: address.rank(now))[:MOST_TRIES]

    async def _resolve(self) -> None:
        """What was found before stays while the name cannot be resolved."""
        try:
            found = await resolve_host(self._host)
        except OSError as error:
            logger.warning("the name of user-service was not resolved: %s", type(error).__name__)
        else:
            for gone in self._addresses.keys() - found:
                self._addresses.pop(gone).close()
            for host in found - self._addresses.keys():
                self._addresses[host] = _Address(host, self._port, self._host, self._tls, self._timeout)
        finally:
            self._resolve_at = time.monotonic() + RESOLVE_SECONDS
            self._resolving = None


class _Address:
    """One address of the origin, and the connections to it that are kept."""

    def __init__(self, host: str, port: int, name: str, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._host = host
        self._port = port
        self._name = name
        self._tls = tls
        self._connect_timeout = min(timeout / 2, MOST_CONNECT_SECONDS)
        self._slow = timeout / 2
        self._idle: list[_Connection] = []
        self._closed = False
        self._under_way = 0
        self._used_at = 0.0
        self._failed_at = -math.inf

    def rank(self, now: float) -> tuple[bool, int, float]:
        return (self.failed_lately(now), self._under_way, self._used_at)

    def failed_lately(self, now: float) -> bool:
        return now - self._failed_at < AVOIDED_SECONDS

    async def exchange(self, request: bytes) -> Response:
        began = self._used_at = time.monotonic()
        self._under_way += 1
        try:
            response = await self._exchange(request)
        except BaseException as failure:
            # A caller who is gone says nothing of this address, unless it has kept them waiting.
            if isinstance(failure, NoResponse) or time.monotonic() - began >= self._slow:
                self._failed_at = time.monotonic()
            raise
        finally:
            self._under_way -= 1
        self._failed_at = -math.inf
        return response

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, request: bytes) -> Response:
        connection = self._pop_idle()
        if connection is not None:
            try:
                return await self._ask(connection, request)
            except _Closed:
                pass  # just as it was used again
        return await self._ask(await self._open_connection(), request)

    async def _ask(self, connection: "_Connection", request: bytes) -> Response:
        response = await connection.exchange(request)
        if self._closed:
            connection.close()
        elif connection.open:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return response

    def _pop_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < KEPT_SECONDS:
                return connection
            connection.close()
        return None

    async def _open_connection(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    _Connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._name if self._tls else None,
                )
        except OSError as failure:
            raise _NotConnected(f"no connection: {type(failure).__name__}") from failure
        return connection


class _Connection(asyncio.Protocol):
    """One exchange at a time, read by llhttp."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[Response] | None = None
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

    async def exchange(self, request: bytes) -> Response:
        self._heard, self._headers, self._body = 0, {}, bytearray()
        self._response = asyncio.get_running_loop().create_future()
        try:
            if not self.open:
                raise _Closed
            cast("asyncio.Transport", self._transport).write(request)
            return await self._response
        except BaseException:
            self.close()
            raise
        finally:
            self._response = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._response is None or self._response.done():
            self.close()  # surplus: the next answer could be taken for another's
        elif self._heard > LARGEST_RESPONSE:
            self._response.set_exception(NoResponse("it is too large"))
        else:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                if not self._response.done():
                    self._response.set_exception(NoResponse(f"it cannot be read: {type(error).__name__}"))
                self.close()

    def connection_lost(self, _: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(NoResponse("the connection was lost") if self._heard else _Closed())

    def on_message_begin(self) -> None:
        if self._response is None or self._response.done():
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
        if self._response is not None and not self._response.done():
            self._response.set_result(Response(status, self._headers, bytes(self._body)))
