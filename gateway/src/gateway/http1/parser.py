"""Reads the messages of one client connection: each head one way or not at all, then its body by its framing.

A request's head is taken from the raw bytes up to its empty line and read by request_head.read; llhttp is fed the same
bytes, one message at a time, and has to agree. What comes behind a message stays raw until the message is over.
"""

from typing import Final

import httptools

from gateway.http1 import request_head
from gateway.http1.chunks import ChunkedBody
from gateway.http1.head import BadRequest, Head, HeadTooLarge, TargetTooLong
from gateway.http1.request_head import MAX_HEAD, MAX_TARGET

_FRAMING_ONLY: Final = b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"
# Clients repeat their fields with every request. So much of them is kept to compare with; more is read each time.
_REPEATED_MAX: Final = 2048


class Reader:
    """What came and is not read yet, and where in a message it is."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_headers",
        "_known",
        "_line",
        "_parser",
        "_parts",
        "body_left",
        "body_read",
        "buffer",
    )

    def __init__(self) -> None:
        self.buffer = b""  # raw bytes that are not read yet
        self.body_left = 0  # bytes of a counted body that are still to come; -1 while a chunked one is coming
        self.body_read = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []  # what llhttp made of the body, until it is handed on
        self._complete = False
        self._chunks: ChunkedBody | None = None
        # The last head that may be repeated: its request line, its fields with the line ends before and behind them.
        self._line = b""
        self._headers = b""
        self._known: Head | None = None

    def next_head(self) -> Head | None:
        """Takes one head out of the buffer; None while it is not all there, a Problem if it can never be read."""
        data = self.buffer
        known = self._known
        if known is not None:
            # Read, and agreed on by llhttp, when it came the last time: only the request line can be new.
            at = data.find(b"\r\n")
            if at > 0 and data.startswith(self._headers, at):
                line = data[:at]
                head = known if line == self._line else request_head.read_again(line, known)
                if head is not None:
                    self._line, self._known = line, head
                    at += len(self._headers)
                    self.buffer = data[at:] if head.keep_alive else b""
                    return head
        try:
            return self._read_head(data)
        except httptools.HttpParserError as error:
            raise BadRequest(str(error)) from None

    def _read_head(self, data: bytes) -> Head | None:
        end = data.find(b"\r\n\r\n")
        if end == 0:
            raise BadRequest("More than one empty line is before the request.")
        if end > 0 and data[:2] == b"\r\n":
            data = data[2:]  # one is allowed (RFC 9112, 2.2)
            end -= 2
        if end < 0:
            _check_unfinished(data)
            self.buffer = data
            return None
        if end > MAX_HEAD:
            _check_sizes(data)
        head = request_head.read(data[:end])
        if head.refusal is not None:
            self.buffer, self.body_left = b"", 0
            return head
        self._complete = False
        self._agree(head, data[: end + 4])
        self._chunks = ChunkedBody() if head.chunked else None
        self.body_left = -1 if head.chunked else head.length or 0
        self.body_read = 0
        # Behind a message that ends the connection nothing is read: one answer, never two.
        self.buffer = data[end + 4 :] if head.keep_alive or self.body_left else b""
        line = data.find(b"\r\n")
        if head.repeatable and end - line <= _REPEATED_MAX:
            self._line, self._headers, self._known = data[:line], data[line : end + 4], head
        return head

    def _agree(self, head: Head, block: bytes) -> None:
        """llhttp reads the same head, and must see the same end of the message."""
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            # It stops here; a fresh parser with the same framing reads on.
            self._parser = httptools.HttpRequestParser(self)
            if head.has_body:
                self._complete = False
                length = b"Content-Length: %d" % (head.length or 0)
                self._parser.feed_data(
                    _FRAMING_ONLY % (b"Transfer-Encoding: chunked" if head.chunked else length)
                )
        if self._complete == head.has_body:
            raise BadRequest("The end of the message is not clear.")

    @property
    def turn_over(self) -> bool:
        """More of the body is here than is read in one turn: the next call of body(), with nothing new, reads on."""
        return self._chunks is not None and self._chunks.turn_over

    def body(self, data: bytes) -> bytes:
        """What these bytes hold of the body. Where it ends `body_left` is 0, and what came behind it in the buffer."""
        try:
            chunks = self._chunks
            rest = self._feed_counted(data) if chunks is None else self._read_chunks(chunks, data)
        except httptools.HttpParserError as error:
            raise BadRequest(str(error)) from None
        parts, self._parts = self._parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.body_read += len(body)
        if self._complete:
            self.body_left = 0
            self.buffer = rest
        return body

    def _feed_counted(self, data: bytes) -> bytes:
        left = self.body_left
        self._parser.feed_data(data[:left] if len(data) > left else data)
        self.body_left = max(0, left - len(data))
        if self._complete != (self.body_left == 0):
            raise BadRequest("The end of the message is not clear.")
        return data[left:]

    def _read_chunks(self, chunks: ChunkedBody, data: bytes) -> bytes:
        """llhttp is fed the end alone: it reads the trailers, and takes up the next message behind them."""
        self._parts, rest = chunks.read(data)
        if chunks.over:
            self._parser.feed_data(b"0\r\n" + chunks.trailers[:-2])
            early = self._complete
            self._parser.feed_data(chunks.trailers[-2:])
            if early or not self._complete:
                raise BadRequest("The end of the message is not clear.")
        return rest

    def skip_body(self) -> bool:
        """Passes over a body that nobody wants and that is here in full; whether the next head can now be read."""
        if 0 < self.body_left <= len(self.buffer):
            self._parser = httptools.HttpRequestParser(self)
            self.buffer = self.buffer[self.body_left :]
            self.body_left = 0
        return self.body_left == 0

    def spoil(self) -> None:
        """The body cannot be read to its end: nothing behind it can."""
        self.body_left = -1
        self.buffer = b""

    # What llhttp calls; it gets no on_header, so that trailers are read, checked and dropped.

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True


def _check_unfinished(data: bytes) -> None:
    if data.count(b"\n") != data.count(b"\r\n") or not (data[:1].isalpha() or data[:2] in (b"\r", b"\r\n")):
        raise BadRequest("The message is not HTTP/1.1.")
    _check_sizes(data)


def _check_sizes(data: bytes) -> None:
    if len(data) > MAX_TARGET and b"\r\n" not in data[: MAX_TARGET + 32]:
        raise TargetTooLong(f"The target is longer than {MAX_TARGET} bytes.")
    if len(data) > MAX_HEAD:
        raise HeadTooLarge(f"The request line and headers have more than {MAX_HEAD} bytes.")
