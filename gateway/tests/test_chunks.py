"""Chunked request bodies: read one way however they are cut, and never for longer than a turn."""

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.chunks import CHUNKS_A_TURN, MAX_LINE, MAX_TRAILERS, ChunkedBody
from gateway.http1.head import BadRequest, HeadTooLarge
from gateway.http1.parser import Reader
from gateway.server.client_connection import ClientConnection
from service_kit.problems import Problem
from tests.conftest import Upstream, running
from tests.process import connected
from tests.wire import get, post

HEAD = b"POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
READ = 256 * 1024  # what one read of a connection brings at most

# Of one read, so that the payload is little and its framing all there is.
MOSTLY_FRAMING = {
    "a byte a chunk": b"1\r\nx\r\n",
    "chunks of a line end": b"2\r\n\r\n\r\n",
    "extensions": b"1;a=b\r\nx\r\n",
    "zeros": b"000000000000001\r\nx\r\n",
}


def read(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
    """The body and what comes behind it, as the gateway reads them; None if it is not all there."""
    reader = Reader()
    reader.buffer = HEAD
    assert reader.next_head() is not None
    body = b""
    for number, piece in enumerate(pieces):
        body += reader.body(piece)
        while reader.turn_over:
            body += reader.body(b"")
        if not reader.body_left:
            return body, reader.buffer + b"".join(pieces[number + 1 :])
    return None


def outcome(pieces: list[bytes]) -> tuple[bytes, bytes] | type[Problem] | None:
    try:
        return read(pieces)
    except Problem as problem:
        return type(problem)


class ByLlhttp:
    def __init__(self) -> None:
        self.body, self.complete = b"", False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_by_llhttp(message: bytes) -> tuple[bytes, bool]:
    said = ByLlhttp()
    httptools.HttpRequestParser(said).feed_data(HEAD + message)
    return said.body, said.complete


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[start:end] for start, end in itertools.pairwise(ends)]


_payload = st.one_of(
    st.binary(min_size=1, max_size=40), st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n"])
)
_chunk = st.builds(
    lambda payload, size, extension: size % len(payload) + extension + b"\r\n" + payload + b"\r\n",
    _payload,
    st.sampled_from([b"%x", b"%X", b"0%x", b"00000%X"]),
    st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"']),
)
_body = st.builds(
    lambda chunks, last, trailers: b"".join(chunks) + last + b"\r\n" + trailers + b"\r\n",
    st.lists(_chunk, max_size=5),
    st.sampled_from([b"0", b"0", b"000", b"0;a=b"]),
    st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]),
)
_next = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"])
_cuts = st.lists(st.integers(0, 400), max_size=6)


@given(_body, _next, _cuts)
@settings(deadline=None, max_examples=300)
def test_a_body_is_what_llhttp_reads_and_ends_where_it_ends(
    body: bytes, after: bytes, cuts: list[int]
) -> None:
    got = read(cut(body + after, cuts))
    assert got is not None
    assert (got[0], True) == read_by_llhttp(body)
    assert got[1] == after


@given(_body, st.integers(0, 400), st.binary(max_size=2), st.integers(0, 2), _cuts)
@settings(deadline=None, max_examples=600)
def test_what_is_read_of_a_spoilt_body_is_what_llhttp_reads(
    body: bytes, place: int, new: bytes, taken: int, cuts: list[int]
) -> None:
    at = place % (len(body) + 1)
    spoilt = body[:at] + new + body[at + taken :]
    whole = outcome([spoilt])
    assert outcome(cut(spoilt, cuts)) == whole, "where it was cut decides nothing"
    if isinstance(whole, tuple):
        message = spoilt[: len(spoilt) - len(whole[1])]
        if b";" not in message:  # extensions are passed over here, and read there
            assert read_by_llhttp(message) == (whole[0], True)


@pytest.mark.parametrize(
    "said",
    [
        *(
            b"x",
            b" 1\r\n",
            b"1 \r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1_0\r\n",
            b"-1\r\n",
            b";a\r\n",
            b"\r\n",
            b"1\n",
        ),
        *(
            b"1\r\r\n",
            b"1;a\nb\r\n",
            b"1;\x00\r\n",
            b"f" * 16 + b"\r\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\rb",
        ),
        *(b"0\r\nno colon\r\n\r\n", b"0\r\nA: b\n\r\n\r\n", b"0\r\n\n\r\n\r\n", b"0\r\nA\x00: b\r\n\r\n"),
    ],
)
def test_what_others_could_read_differently_is_refused_at_once(said: bytes) -> None:
    assert outcome([said]) is BadRequest
    assert outcome([said[at : at + 1] for at in range(len(said))]) is BadRequest


def test_a_chunks_first_line_and_the_trailers_are_bounded() -> None:
    assert outcome([b"1;" + b"a" * (MAX_LINE - 4) + b"\r\n"]) is None
    for pieces in ([b"1;" + b"a" * MAX_LINE], [b"1;", *([b"a"] * MAX_LINE)]):
        assert outcome(pieces) is BadRequest
    trailer = b"A: " + b"b" * 1000 + b"\r\n"
    assert outcome([b"0\r\n", *([trailer] * 17)]) is HeadTooLarge
    assert 17 * len(trailer) > MAX_TRAILERS


@pytest.mark.parametrize("chunk", MOSTLY_FRAMING.values(), ids=MOSTLY_FRAMING)
def test_no_turn_reads_more_than_a_bounded_number_of_chunks(chunk: bytes) -> None:
    body, data, turns = ChunkedBody(), chunk * (READ // len(chunk)), 0
    payload = 0
    while data or body.turn_over:
        parts, _ = body.read(data)
        assert len(parts) <= CHUNKS_A_TURN
        payload, data, turns = payload + len(parts), b"", turns + 1
    assert payload == READ // len(chunk)
    assert turns >= payload // CHUNKS_A_TURN


def test_line_ends_in_a_large_chunk_are_payload_like_any_other() -> None:
    """Each was taken for a place where the message may end: 256 KiB of them held the loop for half a second."""
    parts, _ = ChunkedBody().read(b"3fff0\r\n" + b"\r\n" * 131_000)
    assert len(parts) == 1


async def test_while_a_body_of_tiny_chunks_is_read_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    read_body, take_request = ClientConnection._read_body, ClientConnection._take_request

    def reads(connection: ClientConnection, data: bytes) -> None:
        order.append("chunks")
        read_body(connection, data)

    def takes(connection: ClientConnection) -> None:
        order.append("request")
        take_request(connection)

    monkeypatch.setattr(ClientConnection, "_read_body", reads)
    monkeypatch.setattr(ClientConnection, "_take_request", takes)
    async with running(tmp_path) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(post(CHUNKED) + b"1\r\nx\r\n" * 40_000)
        while "chunks" not in order:
            await asyncio.sleep(0)
        async with connected(gateway.port) as (others, other):
            other.write(get(b"/public/b"))
            assert (await others.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
    second = order.index("request", 1)
    assert "chunks" in order[1:second]
    assert "chunks" in order[second:]


class Slow(Upstream):
    """Counts the payload it gets, and begins to read when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.size, self.done = asyncio.Event(), 0, asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self.go.wait()
                while size := int(await reader.readline(), 16):
                    self.size += len(await reader.readexactly(size))
                    await reader.readexactly(2)
                await reader.readexactly(2)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
                self.done.set()


async def test_no_byte_of_tiny_chunks_is_lost_or_held_however_slow_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream, most = Slow(), 0
    received = ChunkedBody.read

    def seen(body: ChunkedBody, data: bytes) -> Any:
        nonlocal most
        got = received(body, data)
        most = max(most, len(body._unread))
        return got

    monkeypatch.setattr(ChunkedBody, "read", seen)
    chunks = 150_000
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(post(CHUNKED) + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
        for _ in range(50):
            await asyncio.sleep(0)
        upstream.go.set()
        await asyncio.wait_for(upstream.done.wait(), 30)
        await reader.readuntil(b"\r\n\r\nok")
        # Behind it the connection serves the next request.
        writer.write(post(CHUNKED) + b"1\r\nx\r\n0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 30)
    assert upstream.size >= chunks
    assert most <= 2 * READ
