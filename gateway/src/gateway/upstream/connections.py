"""One connection to an upstream: one exchange at a time, answers read strictly or not at all."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, cast

import httptools

from gateway.forwarding import BadAnswer, read_answer

if TYPE_CHECKING:
    from gateway.forwarding import Answer
    from gateway.upstream.pool import Pool
    from gateway.upstream.streaming import Exchange
    from gateway.upstream.tunnel import Tunnel

_MAX_ANSWER_HEAD: Final = 64 * 1024


class Connection(asyncio.Protocol):
    """Reads answers with llhttp, which has to agree with what forwarding.read_answer says of the head."""

    __slots__ = (
        "_answer",
        "_buffer",
        "_complete",
        "_parser",
        "_parts",
        "_pool",
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
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._buffer = b""
        self._answer: Answer | None = None
        self._complete = False
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.exchange: Exchange | None = None
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
        try:
            if self._answer is None:
                data = self._read_heads(exchange, data)
                if self.exchange is None or self._answer is None:
                    return
            self._feed(data)
        except (BadAnswer, httptools.HttpParserError) as error:
            self.close()
            exchange.failed(self, f"the answer cannot be read: {error}")
            return
        parts, self._parts = self._parts, []  # given away: the exchange puts the head in front of them
        exchange.deliver(parts, self._complete)

    def _read_heads(self, exchange: "Exchange", data: bytes) -> bytes:  # noqa: C901 - one rule a branch
        """Reads interim heads and the final one; returns what llhttp has still to be fed with."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _MAX_ANSWER_HEAD:
                if len(data) > _MAX_ANSWER_HEAD:
                    raise BadAnswer("the head is too large")
                self._buffer = data
                return b""
            answer = read_answer(data[:end])
            if answer.status >= 200:
                break
            after = data[end + 4 :]
            if answer.status == 101:
                self._switch(exchange, answer, data[: end + 4], after)
                return b""
            self._feed(data[: end + 4])
            self._complete = False
            exchange.interim(answer)
            data = after
            if not data:
                return b""
        self._answer = answer
        exchange.begin_answer(answer)
        if exchange.bodyless:
            # llhttp does not know that this was HEAD and would wait for a body; only it and the head agree here.
            self._feed(data[: end + 4])
            self._parser = httptools.HttpResponseParser(self)
            self._complete = True
            if len(data) > end + 4:
                raise BadAnswer("bytes after an answer that has no body")
            return b""
        if answer.length is not None and len(data) - end - 4 > answer.length:
            raise BadAnswer("bytes after the answer")
        return data

    def _feed(self, data: bytes) -> None:
        if data:
            self._parser.feed_data(data)
            if (
                self._complete
                and data.endswith(b"\r\n\r\n\r\n")
                and self._answer is not None
                and self._answer.chunked
            ):
                raise BadAnswer("an empty line after the answer")  # llhttp passes over it

    def _switch(self, exchange: "Exchange", answer: "Answer", block: bytes, after: bytes) -> None:
        with contextlib.suppress(httptools.HttpParserUpgrade):
            self._parser.feed_data(block)
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
            self._pool.put_back(self)
        else:
            self.close()

    @property
    def answer_ends_with_connection(self) -> bool:
        answer = self._answer
        return answer is not None and answer.length is None and not answer.chunked

    def close(self) -> None:
        self.exchange = None
        self.transport.abort()

    # What the transport calls.

    def pause_writing(self) -> None:
        self.paused = True
        if self.exchange is not None:
            self.exchange.upstream_full()
        elif self.tunnel is not None:
            self.tunnel.upstream_full()

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None:
            self.exchange.upstream_ready()
        elif self.tunnel is not None:
            self.tunnel.upstream_ready()

    def eof_received(self) -> bool:
        if self.tunnel is not None:
            self.tunnel.upstream_ended()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pool.gone(self)
        exchange, self.exchange = self.exchange, None
        if self.tunnel is not None:
            self.tunnel.upstream_lost()
        elif exchange is not None:
            # Only a clean end of the stream ends a body that has no other end.
            if exc is None and self._answer is not None and self.answer_ends_with_connection:
                exchange.deliver([], True)
            else:
                exchange.lost(self)
