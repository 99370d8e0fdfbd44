"""One connection to an upstream: one exchange at a time, answers read strictly or not at all."""

import asyncio
from math import inf
from typing import Final, Protocol, cast

import httptools

from gateway.upstream.answer import Answer, BadAnswer, read_answer

_MAX_ANSWER_HEAD: Final = 64 * 1024


class Home(Protocol):
    """Where a connection belongs: its pool."""

    def put_back(self, connection: "Connection") -> None: ...
    def gone(self, connection: "Connection") -> None: ...


class Asker(Protocol):
    """Who waits for the answer: the exchange."""

    bodyless: bool  # after begin_answer: whether this answer can have no body

    def interim(self, answer: Answer) -> None: ...
    def begin_answer(self, answer: Answer) -> None: ...
    def deliver(self, parts: list[bytes], complete: bool) -> None: ...
    def failed(self, reason: str) -> None: ...
    def lost(self, connection: "Connection") -> None: ...
    def may_switch(self, answer: Answer) -> bool: ...
    def switch(self, connection: "Connection", answer: Answer, after: bytes) -> None: ...
    def upstream_full(self) -> None: ...
    def upstream_ready(self) -> None: ...
    def noticed(self) -> None: ...


class Stream(Protocol):
    """Who has the connection's bytes after a switch: the tunnel."""

    def from_upstream(self, data: bytes) -> None: ...
    def upstream_ended(self) -> None: ...
    def upstream_lost(self) -> None: ...
    def upstream_full(self) -> None: ...
    def upstream_ready(self) -> None: ...


class Connection(asyncio.Protocol):
    """Reads the heads with read_answer, a counted body by its count, and a chunked one with llhttp, which has to agree
    with what was read of its head."""

    __slots__ = (
        "_abandoned",
        "_answer",
        "_buffer",
        "_complete",
        "_home",
        "_left",
        "_parser",
        "_parts",
        "exchange",
        "heard",
        "idle_since",
        "lost",
        "paused",
        "transport",
        "tunnel",
    )

    def __init__(self, home: Home) -> None:
        self._home = home
        self._buffer = b""
        self._answer: Answer | None = None
        self._left = 0.0  # bytes of the body that are to come; infinite where its end is the connection's
        self._parser: httptools.HttpResponseParser | None = None  # from the first chunked answer on
        self._parts: list[bytes] = []  # what llhttp made of the body, until it is handed on
        self._complete = False
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.exchange: Asker | None = None
        self._abandoned: Asker | None = None  # has left, and waits until the service has noticed
        self.tunnel: Stream | None = None
        self.heard = False  # whether any byte came since the exchange began
        self.lost = False
        self.paused = False  # writing has to wait
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def begin(self, exchange: Asker) -> None:
        """Takes the exchange; its request is written next."""
        self.exchange = exchange
        self.heard = False
        self._answer = None
        self._complete = False

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.tunnel is not None:
                self.tunnel.from_upstream(data)
            else:
                self.close()  # surplus, or an answer to nothing: what comes next could be taken for another's
            return
        self.heard = True
        answer = self._answer
        try:
            if answer is None:
                parts = self._read_heads(exchange, data)
            else:
                parts = self._read_chunked(data) if answer.chunked else self._read_counted(data)
        except (BadAnswer, httptools.HttpParserError) as error:
            self.close()
            exchange.failed(f"the answer cannot be read: {error}")
            return
        if self._answer is not None and self.exchange is not None:
            exchange.deliver(parts, self._complete)

    def _read_heads(self, exchange: Asker, data: bytes) -> list[bytes]:
        """Reads interim heads and the final one; returns what has come of the body."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _MAX_ANSWER_HEAD:
                if len(data) > _MAX_ANSWER_HEAD:
                    raise BadAnswer("the head is too large")
                self._buffer = data
                break
            answer = read_answer(data[:end])
            if answer.status >= 200:
                return self._begin(exchange, answer, data, end + 4)
            data = data[end + 4 :]
            if answer.status == 101:
                self._switch(exchange, answer, data)
                break
            exchange.interim(answer)
        return []

    def _begin(self, exchange: Asker, answer: Answer, data: bytes, body_at: int) -> list[bytes]:
        self._answer = answer
        exchange.begin_answer(answer)
        if self.exchange is None:
            return []  # an event stream whose session has ended
        if exchange.bodyless:
            self._left = 0
        elif answer.chunked:
            return self._read_chunked(data)
        else:
            self._left = inf if answer.length is None else answer.length
        return self._read_counted(data[body_at:])

    def _read_counted(self, data: bytes) -> list[bytes]:
        self._left -= len(data)
        if self._left < 0:
            raise BadAnswer("bytes after the answer")
        self._complete = self._left == 0
        return [data] if data else []

    def _read_chunked(self, data: bytes) -> list[bytes]:
        """The answer from its status line on."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(data)
        if self._complete and data.endswith(b"\r\n\r\n\r\n"):
            raise BadAnswer("an empty line after the answer")  # llhttp passes over it
        parts, self._parts = self._parts, []  # given away: the exchange puts the head in front of them
        return parts

    def _switch(self, exchange: Asker, answer: Answer, after: bytes) -> None:
        if not exchange.may_switch(answer):
            raise BadAnswer("a switch of protocols that was not asked for")
        self.exchange = None
        exchange.switch(self, answer, after)

    # What llhttp calls; it gets no on_header, so that trailers are read, checked and dropped.

    def on_message_begin(self) -> None:
        if self._complete:
            raise BadAnswer("bytes after the answer")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    # What the exchange asks for.

    def release(self, reusable: bool) -> None:
        """The exchange is over: back to the pool, or closed."""
        answer = self._answer
        self.exchange = None
        if reusable and answer is not None and answer.keep_alive and not self.lost and not self.paused:
            self._home.put_back(self)
        else:
            self.close()

    def close(self) -> None:
        self.exchange = None
        self.transport.abort()

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
        self._home.gone(self)
        exchange, self.exchange = self.exchange, None
        answer = self._answer
        if self.tunnel is not None:
            self.tunnel.upstream_lost()
        elif exchange is not None:
            # Only a clean end of the stream ends a body that has no other end.
            if exc is None and answer is not None and answer.length is None and not answer.chunked:
                exchange.deliver([], True)
            else:
                exchange.lost(self)
        elif self._abandoned is not None:
            abandoned, self._abandoned = self._abandoned, None
            abandoned.noticed()
