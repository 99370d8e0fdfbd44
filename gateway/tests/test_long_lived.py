"""WebSockets, event streams and other long responses: how many there may be, so that everybody else is served."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream import exchange
from service_kit.testing import redis_server
from tests.conftest import GatewayUnderTest, running
from tests.process import reset, until
from tests.test_bodies import PROXIED
from tests.test_exchange import LAST, OK, Scripted, is_problem, status
from tests.test_sockets import ADA, EVENTS, SWITCH, following, opening
from tests.wire import get

LINES = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b"3\r\n{}\n\r\n"


async def streams(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    """A WebSocket, or what the query asks for; anything else is answered and over."""
    while (head := await upstream.head(reader)).startswith(b"GET /public/"):
        writer.write(OK)
    if b"lines" in head:
        writer.write(LINES)
        while True:
            writer.write(LINE)
            await writer.drain()
            await asyncio.sleep(0.05)
    writer.write(SWITCH if b"Upgrade" in head else EVENTS)
    await reader.read()


def asks(gateway: GatewayUnderTest, what: str, client: str) -> bytes:
    path = {"socket": "/socket", "events": "/private?events", "lines": "/private?lines"}[what]
    lines = opening("/socket" if what == "socket" else path, gateway.issuer.token()).removesuffix(b"\r\n")
    return lines + f"X-Forwarded-For: {client}\r\n\r\n".encode()


@asynccontextmanager
async def open_for_long(gateway: GatewayUnderTest, what: str, *clients: str) -> AsyncIterator[None]:
    """Their connections, each of which lasts."""
    writers = []
    try:
        for client in clients:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writers.append(writer)
            writer.write(asks(gateway, what, client))
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] in (b"101", b"200")
            if what == "lines":
                for _ in range(4):
                    await reader.readuntil(LINE)
        yield
    finally:
        for writer in writers:
            reset(writer)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LONG_SECONDS", 0.1)


@pytest.mark.parametrize("what", ["socket", "events", "lines"])
async def test_what_lasts_leaves_a_quarter_of_the_connections_to_everybody_else(
    tmp_path: Path, what: str
) -> None:
    clients = [f"192.0.2.{number}" for number in range(12)]
    async with running(tmp_path, upstream=Scripted(streams), upstream_connections=16, **PROXIED) as gateway:
        async with open_for_long(gateway, what, *clients):
            refused = await gateway.send(asks(gateway, what, "192.0.2.99"))
            if what == "lines":
                assert status(refused) == 200
                assert not refused.endswith(b"0\r\n\r\n")
            else:
                assert is_problem(refused, 503, b"overloaded"), refused
            for _ in range(3):
                assert status(await gateway.send(get(b"/public/a", LAST))) == 200
        await until(lambda: _opens(gateway, what, "192.0.2.99"), 5)


@pytest.mark.parametrize("what", ["socket", "events"])
async def test_of_what_lasts_an_address_has_a_quarter(tmp_path: Path, what: str) -> None:
    async with running(tmp_path, upstream=Scripted(streams), upstream_connections=16, **PROXIED) as gateway:
        async with open_for_long(gateway, what, *["192.0.2.1"] * 3):
            refused = await gateway.send(asks(gateway, what, "192.0.2.1"))
            assert is_problem(refused, 429, b"address_limited"), refused
            async with open_for_long(gateway, what, "192.0.2.2"):
                pass
            assert status(await gateway.send(get(b"/public/a", b"X-Forwarded-For: 192.0.2.1", LAST))) == 200
        await until(lambda: _opens(gateway, what, "192.0.2.1"), 5)


async def _opens(gateway: GatewayUnderTest, what: str, client: str) -> bool:
    try:
        async with open_for_long(gateway, what, client):
            return True
    except (AssertionError, OSError, asyncio.IncompleteReadError):
        return False


async def test_an_event_stream_that_its_service_ended_gives_its_place_back(tmp_path: Path) -> None:
    async def ends(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        while await upstream.head(reader):
            writer.write(EVENTS + b"0\r\n\r\n")

    async with running(tmp_path, upstream=Scripted(ends), upstream_connections=1, **PROXIED) as gateway:
        for _ in range(3):
            assert status(await gateway.send(asks(gateway, "events", "192.0.2.1"))) == 200


async def test_any_response_that_goes_on_ends_with_its_session_and_nobody_takes_it_for_complete(
    tmp_path: Path,
) -> None:
    with redis_server() as server:
        async with following(tmp_path, server, upstream=Scripted(streams)) as streamed:
            gateway = streamed.gateway
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            claims: dict[str, Any] = ADA
            writer.write(opening("/private?lines", gateway.issuer.token(**claims)))
            for _ in range(5):
                await reader.readuntil(LINE)
            await streamed.revoke(kind="session", sid=ADA["sid"])
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 1)
            writer.close()


async def test_an_event_stream_ends_cleanly_when_the_gateway_stops(tmp_path: Path) -> None:
    async with running(tmp_path, upstream=Scripted(streams)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(opening("/private?events", gateway.issuer.token()))
        await reader.readuntil(b"data: 1\n\r\n")
        rest = asyncio.create_task(reader.read())
        stopped = time.monotonic()
    assert await rest == b"0\r\n\r\n"
    assert time.monotonic() - stopped < 5
    writer.close()
