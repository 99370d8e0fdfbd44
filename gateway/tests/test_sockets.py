"""WebSockets and event streams end with their session, over a real stream of revocations."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.asyncio import Redis

from gateway.server.long_lived import LongLivedConnections
from gateway.upstream.tunnel import Frames, close_frame
from service_kit.follower import EPOCH, STREAM
from service_kit.revocations import Revocation, Revocations
from service_kit.testing import RedisServer, redis_server
from service_kit.tokens import Caller
from tests.conftest import GatewayUnderTest, Upstream, running
from tests.process import reset, until

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n"
ADA: dict[str, Any] = {"sub": "ada", "sid": "s" * 22, "cv": 1}


def opening(path: str, token: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    if path == "/socket":
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    return f"{head}\r\n".encode()


class Streamed:
    """A gateway that follows a stream which the test writes."""

    def __init__(self, gateway: GatewayUnderTest, redis: Redis) -> None:
        self.gateway = gateway
        self.redis = redis

    async def revoke(self, **headers: str) -> None:
        entry: dict[Any, Any] = {**headers, "until": str(int(time.time()) + 600)}  # as xadd is typed
        await self.redis.xadd(STREAM, entry)

    async def open(self, path: str, response: bytes, **claims: Any) -> asyncio.StreamReader:
        """A client's reading half, after the answer's head has come."""
        self.gateway.upstream.response = response
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        token = self.gateway.issuer.token(**{**ADA, **claims})
        writer.write(opening(path, token))
        self.writers.append(writer)
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.split()[1] == response.split()[1]
        return reader

    writers: list[asyncio.StreamWriter]


@pytest.fixture(name="streamed")
async def _streamed(tmp_path: Path) -> AsyncIterator[Streamed]:
    with redis_server() as server:
        async with following(tmp_path, server) as streamed:
            yield streamed


@asynccontextmanager
async def following(folder: Path, server: RedisServer, **settings: Any) -> AsyncIterator[Streamed]:
    redis = Redis.from_url(server.url, decode_responses=True)
    await redis.set(EPOCH, "a" * 32)
    await redis.xadd(STREAM, {"kind": "start"})
    async with running(folder, server.url, **settings) as gateway:
        streamed = Streamed(gateway, redis)
        streamed.writers = []
        for _ in range(100):
            got = await gateway.send(
                f"GET /private HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                f"Authorization: Bearer {gateway.issuer.token()}\r\n\r\n".encode()
            )
            if got.startswith(b"HTTP/1.1 200"):
                break
            await asyncio.sleep(0.05)
        yield streamed
        for writer in streamed.writers:
            writer.close()
    await redis.aclose()


async def test_a_websocket_is_closed_within_a_second_of_its_sessions_end_and_told_why(
    streamed: Streamed,
) -> None:
    mine = await streamed.open("/socket", SWITCH)
    others = await streamed.open("/socket", SWITCH, sid="o" * 22)
    await streamed.revoke(kind="session", sid=str(ADA["sid"]))
    assert await asyncio.wait_for(mine.read(), 1) == close_frame(1008, "session_revoked")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(others.read(1), 0.5)


async def test_all_of_a_persons_websockets_are_closed_when_the_password_changed(streamed: Streamed) -> None:
    readers = [await streamed.open("/socket", SWITCH, sid=letter * 22) for letter in "ab"]
    await streamed.revoke(kind="subject", sub="ada", cv="2")
    for reader in readers:
        assert await asyncio.wait_for(reader.read(), 1) == close_frame(1008, "credentials_changed")


async def test_an_event_stream_ends_cleanly_with_its_session_and_whoever_asks_again_is_told_why(
    streamed: Streamed,
) -> None:
    reader = await streamed.open("/private", EVENTS)
    await streamed.revoke(kind="session", sid=str(ADA["sid"]))
    assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 1) == b"8\r\ndata: 1\n\r\n0\r\n\r\n"
    # On the same connection, which a client that read the end takes for its next request.
    await asyncio.sleep(0.1)
    token = streamed.gateway.issuer.token(**ADA)
    streamed.writers[-1].write(
        f"GET /private HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    again = await asyncio.wait_for(reader.readuntil(b"}"), 1)
    assert again.startswith(b"HTTP/1.1 401 ")
    assert b"session_revoked" in again


async def test_a_broken_event_stream_is_not_watched_over_when_its_connection_serves_another(
    streamed: Streamed,
) -> None:
    broken = EVENTS.replace(b"8\r\n", b"no length\r\n")
    streamed.gateway.upstream.response = broken
    reader, writer = await asyncio.open_connection("127.0.0.1", streamed.gateway.port)
    streamed.writers.append(writer)
    writer.write(opening("/private", streamed.gateway.issuer.token(**ADA)))
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 502 ")
    streamed.gateway.upstream.response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"
    writer.write(opening("/private", streamed.gateway.issuer.token(sub="bob", sid="b" * 22, cv=1)))
    assert (await reader.readuntil(b"\r\n\r\nha")).startswith(b"HTTP/1.1 200 ")
    await streamed.revoke(kind="session", sid=str(ADA["sid"]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 1)
    reset(writer)


async def test_a_websocket_outlives_its_token(streamed: Streamed) -> None:
    now = int(time.time())
    reader = await streamed.open("/socket", SWITCH, iat=now - 59, exp=now - 28)  # within the leeway, for 2 s
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 2.5)


async def test_the_close_frame_waits_for_the_end_of_a_frame_on_its_way(streamed: Streamed) -> None:
    frame = b"\x82\x0a" + b"x" * 10
    reader = await streamed.open("/socket", SWITCH + frame[:6])
    assert await reader.readexactly(6) == frame[:6]
    await streamed.revoke(kind="session", sid=str(ADA["sid"]))
    assert await asyncio.wait_for(reader.read(), 2) == b"", (
        "the rest never came, so nothing may be put inside it"
    )


async def test_a_websocket_has_a_maximum_age(tmp_path: Path) -> None:
    with redis_server() as server:
        async with following(tmp_path, server, socket_max_seconds=0.5) as streamed:
            reader = await streamed.open("/socket", SWITCH)
            assert await asyncio.wait_for(reader.read(), 2) == close_frame(1001, "maximum_age")


@pytest.mark.parametrize("ending", [asyncio.StreamWriter.close, reset])
async def test_a_websocket_whose_client_is_gone_ends_and_has_its_line_in_the_log_like_any_other(
    streamed: Streamed, caplog: pytest.LogCaptureFixture, ending: Callable[[asyncio.StreamWriter], None]
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    reader = await streamed.open("/socket", SWITCH + b"\x81\x03abc")
    assert await reader.readexactly(5) == b"\x81\x03abc"
    ending(streamed.writers[-1])
    await until(lambda: "GET /socket 101 5 B " in caplog.text, 5)
    assert caplog.text.count("GET /socket ") == 1


class Stubborn(Upstream):
    """Goes on as if it had not heard that the other side ended, or ends and goes on listening."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self._ends = ends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.response if isinstance(self.response, bytes) else b"")
        if self._ends:
            writer.write_eof()
        while await reader.read(65536):
            pass
        try:
            await asyncio.sleep(3600)
        finally:
            writer.close()


@pytest.mark.parametrize("ends", ["the client", "the service"])
async def test_a_websocket_that_one_side_has_ended_does_not_wait_for_the_other_for_ever(
    tmp_path: Path, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    async with running(tmp_path, upstream=Stubborn(ends == "the service"), idle_seconds=0.5) as gateway:
        gateway.upstream.response = SWITCH
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(opening("/socket", gateway.issuer.token()))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        if ends == "the client":
            writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == (
            close_frame(1001, "") if ends == "the client" else b""
        )
        await until(lambda: "GET /socket 101 " in caplog.text, 5)
        writer.close()


async def test_a_websocket_whose_client_ended_its_half_is_told_the_rest_and_closed(
    streamed: Streamed,
) -> None:
    """The upstream of these tests closes when it hears of the client's end."""
    reader = await streamed.open("/socket", SWITCH)
    streamed.gateway.upstream.response = b"\x81\x03abc\x88\x00"
    streamed.writers[-1].write(b"the last that it says")
    streamed.writers[-1].write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b"\x81\x03abc\x88\x00"
    assert streamed.gateway.upstream.got[-1] == b"the last that it says"


def test_frames_are_followed_to_the_boundary_however_they_are_split() -> None:
    stream = b"\x81\x03abc" + b"\x82\x7e\x01\x00" + bytes(256) + b"\x8a\x00"
    for split in range(len(stream)):
        frames = Frames()
        frames.feed(stream[:split])
        used = frames.feed(stream[split:], to_boundary=True)
        assert frames.at_boundary
        assert split + used in (split, 5, 265, 267)


def test_all_sockets_of_a_session_are_closed_though_closing_one_tells_of_more_that_has_ended() -> None:
    """A stream that ends lets the next request of its connection be read, and this one what other workers were told."""
    revocations = Revocations()
    revocations.prove(time.time())
    long_lived = LongLivedConnections(revocations, 3600)
    closed: list[str] = []

    class Connection:
        def __init__(self, name: str) -> None:
            self.name = name

        def close_long_lived(self, code: str) -> None:
            closed.append(self.name)
            revocations.add(Revocation("subject", "ada", int(time.time()) + 600, 2))

    nobody = frozenset[str]()
    ada = Caller("ada", "web", ADA["sid"], nobody, nobody, 1, "t", "k", 0, 1e12, None, "http://a", "http://a")
    for name in "abc":
        long_lived.add(cast("ClientConnection", Connection(name)), ada, 0)
    revocations.add(Revocation("session", ADA["sid"], int(time.time()) + 600))
    assert sorted(closed) == ["a", "b", "c"]
    assert len(long_lived) == 0
