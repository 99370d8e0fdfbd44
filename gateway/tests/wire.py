"""Messages as bytes, and as readers that are not the gateway's understand them."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple, cast

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

HOST = b"Host: localhost\r\n"
_UNBOUNDED = 2**24


def get(target: bytes, *lines: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /public/a HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


class Message(NamedTuple):
    """A request or an answer; `line` is method and target, or the status."""

    line: tuple[bytes, ...]
    headers: list[tuple[bytes, bytes]]  # names in lower case, values without the spaces around them
    body: bytes
    complete: bool = True


def values(message: Message, name: bytes) -> list[bytes]:
    return [value for field, value in message.headers if field == name]


def connection_tokens(message: Message) -> set[bytes]:
    """What Connection names, in lower case."""
    return {
        token.strip(b" \t").lower() for value in values(message, b"connection") for token in value.split(b",")
    }


def _headers(headers: object) -> list[tuple[bytes, bytes]]:
    return [(bytes(name).lower(), bytes(value)) for name, value in cast("list[tuple[bytes, bytes]]", headers)]


def requests_by_h11(raw: bytes) -> Iterator[tuple[bytes, Message]]:
    """The requests that h11 finds, with their bytes, up to the first that is broken or not all there."""
    while raw:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_UNBOUNDED)
        # One empty line before a request is allowed (RFC 9112, 2.2), which h11 does not know.
        connection.receive_data(raw.removeprefix(b"\r\n"))
        request, body = None, b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                return
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                break
            else:
                return
        rest = connection.trailing_data[0]
        yield (
            raw[: len(raw) - len(rest)],
            Message((request.method, request.target), _headers(request.headers), body),
        )
        raw = rest


async def request_by_aiohttp(
    raw: bytes, reader: type[HttpRequestParserPy] | type[HttpRequestParser]
) -> Message | None:
    """The one request that these bytes are to one of aiohttp's two readers; None if they are anything else."""
    loop = asyncio.get_running_loop()
    parser = reader(
        BaseProtocol(loop),
        loop,
        _UNBOUNDED,
        max_line_size=_UNBOUNDED,
        max_field_size=_UNBOUNDED,
        auto_decompress=False,
    )
    try:
        messages, _, rest = parser.feed_data(raw)
    except HttpProcessingError:
        return None
    if len(messages) != 1 or rest or not messages[0][1].is_eof():
        return None
    message, payload = messages[0]
    line = (message.method.encode(), message.path.encode("utf-8", "surrogateescape"))
    return Message(line, _headers(message.raw_headers), await payload.read())


class Interim(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]


class Response(NamedTuple):
    """What h11 makes of an answer."""

    interim: list[Interim]
    message: Message
    rest: bytes


def answer_by_h11(raw: bytes, method: bytes, ended: bool) -> Response | None:
    """The answer that begins here; `ended` says whether the connection ended cleanly. None if its head is not one."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_UNBOUNDED)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    if ended:
        connection.receive_data(b"")
    interim: list[Interim] = []
    head: h11.Response | None = None
    body, complete = b"", False
    try:
        while not complete:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                interim.append(Interim(event.status_code, _headers(event.headers)))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                complete = True
            else:
                break
    except h11.RemoteProtocolError:
        pass
    if head is None:
        return None
    message = Message((b"%d" % head.status_code,), _headers(head.headers), body, complete)
    return Response(interim, message, connection.trailing_data[0] if complete else b"")
