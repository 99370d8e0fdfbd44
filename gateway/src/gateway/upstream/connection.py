"""One connection to an upstream: one exchange at a time, answers read strictly or not at all."""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final, cast

import httptools

from gateway.upstream.response import BadResponse, Response, read_response

if TYPE_CHECKING:
    from gateway.upstream.exchange import Exchange
    from gateway.upstream.pool import Pool
    from gateway.upstream.tunnel import Tunnel

_MAX_RESPONSE_HEAD: Final = 64 * 1024
# Before one response: a read may hold fifteen thousand, and nobody else is served meanwhile.
_MAX_INTERIM: Final = 200


class Connection(asyncio.Protocol):
    """Reads the heads with read_response, a counted body by its count, and a chunked one with llhttp, which has to agree
    with what was read of its head."""

    __slots__ = (
        "_abandoned",
        "_buffer",
        "_complete",
        "_interim",
        "_left",
        "_parser",
        "_parts",
        "_pool",
        "_response",
        "exchange",
        "heard",
        "idle_since",
        "lost",
        "paused",
        "transport",
        "tunnel",
    )

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._buffer = b""
        self._response: Response | None = None
        self._left = 0.0  # bytes of the body that are to come; infinite where its end is the connection's
        self._parser: httptools.HttpResponseParser | None = None  # from the first chunked answer on
        self._parts: list[bytes] = []  # what llhttp made of the body, until it is handed on
        self._complete = False
        self._interim = 0
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.exchange: Exchange | None = None
        self._abandoned: Exchange | None = None  # has left, and waits until the service has noticed
        self.tunnel: Tunnel | None = None
        self.heard = False  # whether any byte came since the exchange began
        self.lost = False
        self.paused = False  # writing has to wait
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def begin(self, exchange: "Exchange") -> None:
        """Takes the exchange; its request is written next."""
        self.exchange = exchange
        self.heard = False
        self._response = None
        self._complete = False
        self._interim = 0

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.tunnel is not None:
                self.tunnel.from_upstream(data)
            else:
                self.close()  # surplus, or an answer to nothing: what comes next could be taken for another's
            return
        self.heard = True
        response = self._response
        try:
            if response is None:
                parts = self._read_heads(exchange, data)
            else:
                parts = self._read_chunked(data) if response.chunked else self._read_counted(data)
        except (BadResponse, httptools.HttpParserError) as error:
            self.close()
            exchange.failed(f"The response cannot be read: {error}.")
            return
        if self._response is not None and self.exchange is not None:
            exchange.deliver(parts, self._complete)

    def _read_heads(self, exchange: "Exchange", data: bytes) -> list[bytes]:
        """Reads interim heads and the final one; returns what has come of the body."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _MAX_RESPONSE_HEAD:
                if len(data) > _MAX_RESPONSE_HEAD:
                    raise BadResponse("the head is too large")
                self._buffer = data
                break
            response = read_response(data[:end])
            if response.status >= 200:
                return self._begin(exchange, response, data, end + 4)
            data = data[end + 4 :]
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadResponse(f"more than {_MAX_INTERIM} interim responses")
            if response.status == 101:
                self._switch(exchange, response, data)
                break
            exchange.interim(response)
        return []

    def _begin(self, exchange: "Exchange", response: Response, data: bytes, body_at: int) -> list[bytes]:
        self._response = response
        exchange.begin_response(response)
        if self.exchange is None:
            return []  # an event stream whose session has ended
        if exchange.bodyless:
            self._left = 0
        elif response.chunked:
            return self._read_chunked(data)
        else:
            self._left = inf if response.length is None else response.length
        return self._read_counted(data[body_at:])

    def _read_counted(self, data: bytes) -> list[bytes]:
        self._left -= len(data)
        if self._left < 0:
            raise BadResponse("bytes after the response")
        self._complete = self._left == 0
        return [data] if data else []

    def _read_chunked(self, data: bytes) -> list[bytes]:
        """The answer from its status line on."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(data)
        if self._complete and data.endswith(b"\r\n\r\n\r\n"):
            raise BadResponse("an empty line after the response")  # llhttp passes over it
        parts, self._parts = self._parts, []  # given away: the exchange puts the head in front of them
        return parts

    def _switch(self, exchange: "Exchange", response: Response, after: bytes) -> None:
        if not exchange.may_switch(response):
            raise BadResponse("a switch of protocols that was not requested")
        self.exchange = None
        exchange.switch(self, response, after)

    # What llhttp calls; it gets no on_header, so that trailers are read, checked and dropped.

    def on_message_begin(self) -> None:
        if self._complete:
            raise BadResponse("bytes after the response")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    # What the exchange asks for.

    def release(self, reusable: bool) -> None:
        """The exchange is over: back to the pool, or closed."""
        response = self._response
        self.exchange = None
        if reusable and response is not None and response.keep_alive and not self.lost and not self.paused:
            self._pool.put_back(self)
        else:
            self.close()

    def close(self) -> None:
        self.exchange = None
        self.transport.abort()

    @property
    def unread_bytes(self) -> int:
        """What was written and is not in the kernel yet."""
        return 0 if self.lost else self.transport.get_write_buffer_size()

    @property
    def may_be_abandoned(self) -> bool:
        """Whether all of the request is on its way, and nothing of the answer."""
        closed = self.lost or self.transport.is_closing()
        return not (self.heard or closed or self.transport.get_write_buffer_size())

    def abandon(self, seconds: float) -> None:
        """Tells the service that nobody waits any more. Its exchange hears when the service has noticed, which closes the
        connection or answers; it has so many seconds."""
        self._abandoned, self.exchange = self.exchange, None
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    # What the transport calls.

    def pause_writing(self) -> None:
        self.paused = True
        user = self.exchange or self.tunnel
        if user is not None:
            user.upstream_full()

    def resume_writing(self) -> None:
        self.paused = False
        user = self.exchange or self.tunnel
        if user is not None:
            user.upstream_ready()

    def eof_received(self) -> bool:
        if self.tunnel is not None:
            self.tunnel.upstream_ended()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pool.gone(self)
        exchange, self.exchange = self.exchange, None
        response = self._response
        if self.tunnel is not None:
            self.tunnel.upstream_lost()
        elif exchange is not None:
            # Only a clean end of the stream ends a body that has no other end.
            if exc is None and response is not None and response.length is None and not response.chunked:
                exchange.deliver([], True)
            else:
                exchange.lost(self)
        elif self._abandoned is not None:
            abandoned, self._abandoned = self._abandoned, None
            abandoned.noticed()
