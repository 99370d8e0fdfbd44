"""Whoever reaches a service beside the gateway takes little of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server

from service_kit import http_protocol
from service_kit.http_protocol import BoundedProtocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    config = Config(
        answer, port=0, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    config.timeout_keep_alive = 0.5  # type: ignore[assignment] # whole seconds are too long for a test
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving
    assert BoundedProtocol.begun_bytes == 0
    assert not BoundedProtocol.peers


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed, by whatever means."""
    said = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            said += piece
    return said


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-A: a\r\n"),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a"),
        (b"GET /", b"a"),
        (b"", b"\r\n"),
    ],
    ids=["silent", "stalled", "lines", "value", "target", "empty lines"],
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
async def test_a_head_that_does_not_end_ends_its_connection(
    port: int, before: bytes, begins: bytes, goes_on: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if before:
        writer.write(before)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(begins)
    dripping = asyncio.create_task(drip(writer, goes_on))
    async with asyncio.timeout(5):
        await all_of(reader)
    writer.close()
    await dripping


async def test_a_head_has_a_bounded_length(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 60.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET[:-2] + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    dripping = asyncio.create_task(drip(writer, b"GET / HTTP/1.1\r\nX-A: " + b"a" * 10_000))
    async with asyncio.timeout(5):
        assert b"200" not in await all_of(reader)
    writer.close()
    await dripping


async def test_the_heads_of_all_connections_have_a_bounded_length_and_one_in_a_piece_is_served(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 60.0)
    monkeypatch.setattr(http_protocol, "BEGUN_BYTES_MAX", 100_000)
    begun = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    for _, writer in begun:
        writer.write(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 10_000)
    while BoundedProtocol.begun_bytes < 80_000:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    assert BoundedProtocol.begun_bytes <= 100_000
    for _, each in [*begun, (reader, writer)]:
        each.close()


async def test_few_requests_are_taken_before_their_answers(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET * 10)
    for _ in range(10):
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(GET * 1000)
    async with asyncio.timeout(5):
        assert (await all_of(reader)).count(b"200 OK") < 20
    writer.close()


async def test_a_slow_body_is_the_routes_to_judge(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0.1)  # in all longer than a head may take
        writer.write(b"a")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_peer_has_a_bounded_number_of_connections(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "PEER_CONNECTIONS_MAX", 5)
    some = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await all_of(reader) == b""
    writer.close()
    for reader, writer in some:
        writer.write(GET)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
