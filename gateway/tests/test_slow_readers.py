"""Clients that do not read: whose connections end when what waits for all of them is too much."""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.server import slow_readers
from gateway.server.client_connection import ClientConnection
from gateway.server.slow_readers import SlowReaders
from tests.conftest import running
from tests.process import connected, until
from tests.test_exchange import OK, Scripted
from tests.test_sockets import SWITCH, opening
from tests.wire import get, post

SIZE = 16 * 2**20
# A connection holds 64 to 320 KiB. So twelve of one address hold too much, and one alone is never the most of all.
MOST: Final = 700 * 1024


async def pours(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    await upstream.head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // 2**16):
        writer.write(bytes(2**16))
        await writer.drain()


async def test_an_address_that_reads_nothing_of_many_answers_costs_nobody_else_an_answer_that_is_slowly_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.access")
    monkeypatch.setattr(slow_readers, "_MOST_BYTES", MOST)
    async with (
        running(tmp_path, upstream=Scripted(pours), sends=4096, trusted_proxies=("127.0.0.1/32",)) as gateway,
        AsyncExitStack() as stack,
    ):
        slow, writer = await stack.enter_async_context(connected(gateway.port, receives=4096))
        writer.write(get(b"/public/a", b"X-Forwarded-For: 192.0.2.1"))
        assert await slow.readuntil(b"\r\n\r\n")
        for _ in range(12):
            _, writer = await stack.enter_async_context(connected(gateway.port, receives=4096))
            writer.write(get(b"/public/a", b"X-Forwarded-For: 192.0.2.2"))
        await until(lambda: "client=192.0.2.2 " in caplog.text, 10)
        assert "code=cut_short" in caplog.text
        assert len(await slow.readexactly(SIZE)) == SIZE
        await until(lambda: "client=192.0.2.1 " in caplog.text, 10)
    assert "code=cut_short" not in "".join(
        line for line in caplog.text.splitlines() if "client=192.0.2.1 " in line
    )


@pytest.mark.parametrize("what", ["body", "socket"])
async def test_what_a_service_does_not_read_is_bounded_like_what_a_client_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level("INFO", "gateway.access")
    monkeypatch.setattr(slow_readers, "_MOST_BYTES", MOST)
    read = asyncio.Event()

    async def reads_late(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        head = await upstream.head(reader)
        if what == "socket":
            writer.write(SWITCH)
        await read.wait()
        if b"192.0.2.2" in head:
            return
        await reader.readexactly(SIZE)
        writer.write(OK if what == "body" else b"\x88\x00")

    def asks(client: bytes) -> bytes:
        line = b"X-Forwarded-For: " + client
        if what == "body":
            return post(b"Content-Length: %d" % SIZE, line)
        return opening("/socket", house.issuer.token()).removesuffix(b"\r\n") + line + b"\r\n\r\n"

    bounds: dict[str, Any] = {"trusted_proxies": ("127.0.0.1/32",), "body_max_bytes": SIZE}
    async with running(tmp_path, upstream=Scripted(reads_late), **bounds) as house, AsyncExitStack() as stack:
        clients = []
        for client in (b"192.0.2.1", *[b"192.0.2.2"] * 12):
            reader, writer = await stack.enter_async_context(connected(house.port))
            writer.write(asks(client))
            if what == "socket":
                await reader.readuntil(b"\r\n\r\n")
            writer.write(bytes(SIZE))
            clients.append(reader)
        await until(lambda: "client=192.0.2.2 " in caplog.text, 10)
        read.set()
        assert (await asyncio.wait_for(clients[0].read(1), 10)) in (b"H", b"\x88")
        assert "client=192.0.2.1 " not in caplog.text.partition("client=192.0.2.2 ")[0]


async def test_a_service_gets_rid_of_little_that_its_client_does_not_read_however_fast_it_read_before(
    tmp_path: Path,
) -> None:
    pushed = 0

    async def pushes(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal pushed
        await upstream.head(reader)
        writer.transport.set_write_buffer_limits(high=0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**40)
        while True:
            writer.write(bytes(2**16))
            pushed += 2**16
            await writer.drain()

    async with (
        running(tmp_path, upstream=Scripted(pushes)) as gateway,
        connected(gateway.port, 2**16) as (reader, writer),
    ):
        writer.write(get(b"/public/a"))
        fast = len(await reader.readexactly(SIZE))
        reader._transport.pause_reading()  # type: ignore[attr-defined] # asyncio has no other way to stop reading
        before = -1
        while before != pushed:
            before = pushed
            await asyncio.sleep(0.3)
        print(f"{(pushed - fast) // 1024} KiB are on the way")
        assert pushed - fast <= 2**20


async def test_a_client_gets_rid_of_little_that_is_not_read_however_fast_it_was_before(
    tmp_path: Path,
) -> None:
    """It uploads, and sends more requests while the next one is under way."""

    async def takes_one_body(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        await reader.readexactly(SIZE)
        writer.write(OK)
        await upstream.head(reader)
        await reader.read()

    async with (
        running(tmp_path, upstream=Scripted(takes_one_body), body_max_bytes=SIZE) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(post(b"Content-Length: %d" % SIZE))
        for _ in range(SIZE // 2**16):
            writer.write(bytes(2**16))
            await writer.drain()
        await reader.readuntil(b"ok")
        writer.write(get(b"/public/a"))
        more, pushed = get(b"/public/b") * 1000, 0
        with suppress(TimeoutError):
            while True:
                writer.write(more)
                pushed += len(more)
                async with asyncio.timeout(1):
                    await writer.drain()
        print(f"{pushed // 1024} KiB are on the way")
        assert pushed <= 1.5 * 2**20


class Reader(ClientConnection):
    """As much of a connection as matters here."""

    def __init__(self, unread: int) -> None:  # no connection is made
        self._unread_bytes = unread
        self.ended = False

    @property
    def unread_bytes(self) -> int:
        return self._unread_bytes

    def end_unread(self) -> None:
        self.ended = True


def test_no_more_connections_end_than_are_too_many_and_first_those_of_the_address_with_the_most() -> None:
    readers = SlowReaders()
    readers.most_bytes = 100
    greedy, modest, done = [Reader(30) for _ in range(4)], [Reader(25), Reader(10)], Reader(1000)
    for reader in (*greedy, done):
        readers.add(reader, b"192.0.2.1")
    for reader in modest:
        readers.add(reader, b"192.0.2.2")
    readers.remove(done)
    readers.sweep()
    assert sum(reader.ended for reader in greedy) == 2
    assert not any(reader.ended for reader in (*modest, done))
