"""Request bodies: who sends one slowly, and what it costs everybody else."""

import asyncio
import re
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream import request_body
from tests.conftest import GatewayUnderTest, running, turns
from tests.process import connected, until
from tests.test_exchange import LAST, OK, Scripted, is_problem, queued, reads_a_body, status, waits_for_go
from tests.wire import get, post

CHUNKED = b"Transfer-Encoding: chunked"


async def takes_anything(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    """Answers each head at once, and reads what comes behind it."""
    while data := await reader.read(65536):
        upstream.got.append(data)
        if data.startswith(b"GET "):
            writer.write(OK)


async def answers_at_the_end(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    """Answers a chunked request, or one whose body ends with `end`."""
    while data := await reader.read(65536):
        upstream.got.append(data)
        if data.startswith(b"GET ") or data.endswith((b"0\r\n\r\n", b"end")):
            writer.write(OK)


@asynccontextmanager
async def dripping(gateway: GatewayUnderTest, *requests: bytes) -> AsyncIterator[list[StreamReader]]:
    """Clients who have sent so much of their requests, and go on byte by byte."""

    async def drip(writer: StreamWriter) -> None:
        while True:
            writer.write(b"1" if b"chunked" not in request else b"1\r\na\r\n")
            await asyncio.sleep(0.05)

    async with AsyncExitStack() as stack:
        readers, tasks = [], []
        for request in requests:
            reader, writer = await stack.enter_async_context(connected(gateway.port))
            writer.write(request)
            readers.append(reader)
            tasks.append(asyncio.create_task(drip(writer)))
        try:
            yield readers
        finally:
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize("framing", [b"Content-Length: 9000", CHUNKED])
async def test_a_small_body_that_drips_has_its_time_in_all_and_no_service_waits_for_it(
    tmp_path: Path, framing: bytes
) -> None:
    upstream = Scripted(takes_anything)
    async with running(tmp_path, upstream=upstream, body_seconds=0.6) as gateway:
        started = time.monotonic()
        async with dripping(gateway, post(framing)) as (reader,):
            response = await asyncio.wait_for(reader.read(), 10)
        assert is_problem(response, 408, b"request_timeout"), response
        assert time.monotonic() - started >= 0.6
    assert not upstream.got


async def test_a_body_that_drips_although_it_was_asked_for_has_its_time_in_all(tmp_path: Path) -> None:
    upstream = Scripted(takes_anything)
    async with running(tmp_path, upstream=upstream, idle_seconds=0.6) as gateway:
        request = post(b"Content-Length: 9000", b"Expect: 100-continue")
        async with dripping(gateway, request) as (reader,):
            response = await asyncio.wait_for(reader.read(), 10)
        assert is_problem(response, 408, b"request_timeout"), response
    assert upstream.got, "it is the service that asks for the body, or not"


@pytest.mark.parametrize("sizes", [[3, 4, 2], [10_000, 6_384, 1], [16_000, 16_000, 9], [200_000, 300_000, 8]])
async def test_a_chunked_body_of_any_size_arrives_as_it_was_sent(tmp_path: Path, sizes: list[int]) -> None:
    upstream = Scripted(answers_at_the_end)
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(post(CHUNKED, LAST))
        sent = b""
        for number, size in enumerate(sizes):
            piece = b"%d" % number * size
            sent += piece
            writer.write(b"%x\r\n%b\r\n" % (size, piece))
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
        assert status(await asyncio.wait_for(reader.read(), 10)) == 200
    _, _, left = b"".join(upstream.got).partition(b"\r\n\r\n")
    body = b""
    while size := int(left.partition(b"\r\n")[0], 16):
        at = left.index(b"\r\n") + 2
        body, left = body + left[at : at + size], left[at + size + 2 :]
    assert body == sent
    assert left == b"0\r\n\r\n"


async def test_a_small_body_is_sent_with_its_head_and_a_request_behind_it_waits_its_turn(
    tmp_path: Path,
) -> None:
    upstream = Scripted(answers_at_the_end)
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        for piece in (
            post(b"Content-Length: 9"),
            b"this ",
            b"end" + post(b"Content-Length: 3", LAST),
            b"end",
        ):
            writer.write(piece)
            await asyncio.sleep(0.02)
            if piece == b"this ":
                writer.write(b"2")
        response = await asyncio.wait_for(reader.read(), 10)
    assert response.count(b"HTTP/1.1 200 ") == 2
    assert [data.partition(b"\r\n\r\n")[2] for data in upstream.got] == [b"this 2end", b"end"]


@pytest.mark.parametrize(("pause", "expected"), [(0.05, 200), (1.0, 408)])
async def test_a_large_body_that_keeps_the_least_rate_passes_and_one_that_does_not_is_a_408(
    tmp_path: Path, pause: float, expected: int
) -> None:
    upstream = Scripted(reads_a_body)
    bounds: dict[str, Any] = {"idle_seconds": 0.8, "body_least_rate": 4000}
    async with (
        running(tmp_path, upstream=upstream, **bounds) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(post(b"Content-Length: 40000", LAST))
        told = asyncio.create_task(reader.read())
        for _ in range(40):
            writer.write(bytes(1000))
            if (await asyncio.wait({told}, timeout=pause))[0]:
                break
        assert status(await asyncio.wait_for(told, 10)) == expected


async def test_a_client_is_not_blamed_for_a_service_that_reads_slowly(tmp_path: Path) -> None:
    async def slowly(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        head = await upstream.head(reader)
        left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while left:
            left -= len(await reader.read(2**18))
            await asyncio.sleep(0.03)
        writer.write(OK)

    size = 16 * 2**20
    bounds: dict[str, Any] = {"idle_seconds": 1.5, "body_least_rate": 2**24, "body_max_bytes": size}
    async with (
        running(tmp_path, upstream=Scripted(slowly), **bounds) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(post(b"Content-Length: %d" % size, LAST, body=bytes(size)))
        assert status(await asyncio.wait_for(reader.read(), 60)) == 200


@pytest.mark.parametrize("size", [5, 50_000])
async def test_a_body_that_has_come_waits_for_a_connection_as_long_as_a_request_without_one(
    tmp_path: Path, size: int
) -> None:
    table = '[[routes]]\nname = "echo.slow"\npath = "/slow"\nmethods = ["GET"]\naccess = "public"\n'

    async def silence(upstream: Scripted, reader: StreamReader, _: StreamWriter) -> None:
        await upstream.head(reader)
        await upstream.go.wait()

    upstream = Scripted(silence)
    bounds: dict[str, Any] = {"upstream_connections": 1, "first_byte_seconds": 0.3, "idle_seconds": 60}
    async with (
        running(tmp_path, upstream=upstream, table=table + "first_byte_seconds = 60\n", **bounds) as gateway,
        connected(gateway.port) as (_, writer),
    ):
        writer.write(get(b"/slow"))
        await until(lambda: upstream.got)
        told = await gateway.send(post(b"Content-Length: %d" % size, body=bytes(size)), 10)
        upstream.go.set()
    assert is_problem(told, 504, b"upstream_timeout"), told


def upload_of(client: bytes, body: bytes = b"") -> bytes:
    return post(b"Content-Length: 50000", b"X-Forwarded-For: " + client, LAST, body=body)


PROXIED: dict[str, Any] = {"trusted_proxies": ("127.0.0.1/32",)}


async def test_bodies_that_are_still_coming_leave_half_of_the_connections_to_everybody_else(
    tmp_path: Path,
) -> None:
    upstream = Scripted(takes_anything)
    uploads = [upload_of(client) for client in (b"192.0.2.1", b"192.0.2.2")]
    async with (
        running(tmp_path, upstream=upstream, upstream_connections=4, **PROXIED) as gateway,
        dripping(gateway, *uploads),
    ):
        await until(lambda: len(upstream.got) >= 2, 5)
        refused = await gateway.send(upload_of(b"192.0.2.3"))
        assert is_problem(refused, 503, b"overloaded"), refused
        assert b"\r\nRetry-After: " in refused
        for _ in range(3):
            assert status(await gateway.send(get(b"/public/a", LAST))) == 200


@pytest.mark.parametrize("expecting", [(), (b"Expect: 100-continue",)])
async def test_of_bodies_that_are_still_coming_an_address_has_a_quarter(
    tmp_path: Path, expecting: tuple[bytes, ...]
) -> None:
    upstream = Scripted(answers_at_the_end)
    mine = post(b"Content-Length: 50000", b"X-Forwarded-For: 192.0.2.1", *expecting)
    whole = bytes(49_997) + b"end"
    async with running(tmp_path, upstream=upstream, upstream_connections=16, **PROXIED) as gateway:
        async with dripping(gateway, mine, mine):
            await until(lambda: len(upstream.got) >= 2, 5)
            refused = await gateway.send(mine)
            assert is_problem(refused, 429, b"address_limited"), refused
            assert b"\r\nRetry-After: " in refused
            assert status(await gateway.send(upload_of(b"192.0.2.2", whole))) == 200
            assert status(await gateway.send(get(b"/public/a", b"X-Forwarded-For: 192.0.2.1", LAST))) == 200

        async def given_back() -> bool:
            return status(await gateway.send(upload_of(b"192.0.2.1", whole))) == 200

        await until(given_back, 5)


async def test_collected_bodies_have_a_bound_in_all_beyond_which_they_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "_HELD_MOST", 25_000)
    upstream = Scripted(takes_anything)
    first = post(b"Content-Length: 16000", body=bytes(12_000))
    async with running(tmp_path, upstream=upstream, body_seconds=60) as gateway:
        async with dripping(gateway, first, first):
            await asyncio.sleep(0.2)
            assert not upstream.got, "both are collected"
            async with dripping(gateway, first):
                await until(lambda: upstream.got, 5)
                assert upstream.got[0].startswith(b"POST ")
        upstream.got.clear()

        async def all_given_back() -> bool:
            """Both are collected once more."""
            async with dripping(gateway, first, first):
                await asyncio.sleep(0.2)
                return not upstream.got

        await until(all_given_back, 5)


async def test_what_was_collected_is_given_back_however_its_request_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[request_body.Bodies] = []
    usual = request_body.Bodies.__init__

    def made_known(self: request_body.Bodies, *said: Any) -> None:
        usual(self, *said)
        made.append(self)

    monkeypatch.setattr(request_body.Bodies, "__init__", made_known)
    upstream = Scripted(answers_at_the_end)
    async with running(tmp_path, upstream=upstream, body_seconds=0.3, first_byte_seconds=0.5) as gateway:
        whole = post(b"Content-Length: 9", LAST, body=b"all, end")
        for raw, expected in (
            (whole.replace(b"9", b"8"), 200),
            (whole, 408),
            (post(b"Content-Length: 3", LAST, body=b"abc"), 504),
            (post(CHUNKED, LAST, body=b"3\r\nabc\r\nX\r\n"), 400),
            (whole.replace(b"POST", b"PUT").replace(b"9", b"8"), 405),
        ):
            assert status(await gateway.send(raw)) == expected
        async with connected(gateway.port) as (_, writer):
            writer.write(whole)
            await until(lambda: made[0].held > 0, 5)
        await until(lambda: made[0].held == 0, 5)


@pytest.mark.parametrize("framing", [b"Content-Length: 900", CHUNKED])
async def test_who_sends_at_once_is_served_although_others_fill_all_room_for_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framing: bytes
) -> None:
    monkeypatch.setattr(request_body, "_HELD_MOST", 5_000)
    upstream = Scripted(answers_at_the_end)
    async with (
        running(tmp_path, upstream=upstream, upstream_connections=2) as gateway,
        connected(gateway.port) as (_, first),
        connected(gateway.port) as (_, second),
    ):
        first.write(post(b"Content-Length: 16000", body=bytes(5_000)))
        await turns()
        # It takes the one place for bodies that still come.
        second.write(post(b"Content-Length: 16000", body=b"a"))
        await until(lambda: upstream.got, 5)
        body = b"e" * 897 + b"end"
        if framing is CHUNKED:
            body = b"384\r\n" + body + b"\r\n0\r\n\r\n"
        assert status(await gateway.send(post(framing, LAST, body=body))) == 200


# An address.


async def from_address(address: str, port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.transport.abort()


async def test_an_address_has_a_bounded_number_of_connections_and_others_have_theirs(tmp_path: Path) -> None:
    async with (
        running(tmp_path, address_connections=2) as gateway,
        connected(gateway.port),
        connected(gateway.port),
    ):
        await until(lambda: house_holds(gateway, 429), 5)
        response = await from_address("127.0.0.1", gateway.port, get(b"/public/a", LAST))
        assert is_problem(response, 429, b"address_limited"), response
        assert b"\r\nRetry-After: 1\r\n" in response
        assert b"\r\nConnection: close\r\n" in response
        assert status(await from_address("127.0.0.2", gateway.port, get(b"/public/a", LAST))) == 200


async def house_holds(gateway: GatewayUnderTest, expected: int) -> bool:
    return status(await from_address("127.0.0.1", gateway.port, get(b"/public/a", LAST))) == expected


async def test_a_connection_that_ends_makes_room_for_another_of_its_address(tmp_path: Path) -> None:
    async with running(tmp_path, address_connections=2) as gateway:
        for _ in range(3):
            async with connected(gateway.port), connected(gateway.port):
                await until(lambda: house_holds(gateway, 429), 5)
            await until(lambda: house_holds(gateway, 200), 10)


async def test_of_the_connections_beyond_the_bound_a_few_hear_why_and_the_rest_are_reset(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, address_connections=2) as gateway, AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(gateway.port)) for _ in range(80)]
        heard = [await stack_read(reader) for reader, _ in opened[2:]]
    assert sum(b" 429 " in response for response in heard) == 64
    assert heard.count(b"") == 14


async def stack_read(reader: StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(4096), 5)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("mine", "also_mine", "anothers"),
    [
        (b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"),
        (b"2001:db8::1", b"2001:db8::ffff:2", b"2001:db8:0:1::1"),
    ],
)
async def test_a_client_behind_a_proxy_has_a_bounded_number_of_exchanges_and_the_proxy_any_of_connections(
    tmp_path: Path, mine: bytes, also_mine: bytes, anothers: bytes
) -> None:
    upstream = Scripted(waits_for_go)
    bounds: dict[str, Any] = {
        "address_connections": 1,
        "address_exchanges": 2,
        "trusted_proxies": ("127.0.0.1/32",),
    }

    def ask(client: bytes, path: bytes = b"/public/a") -> bytes:
        return get(path, LAST, b"X-Forwarded-For: " + client)

    async with running(tmp_path, upstream=upstream, **bounds) as gateway:
        async with connected(gateway.port) as (one, writer), connected(gateway.port) as (other, second):
            writer.write(ask(mine, b"/public/wait"))
            second.write(ask(also_mine, b"/public/wait"))
            await until(lambda: len(upstream.got) == 2, 5)
            refused = await gateway.send(ask(also_mine))
            assert is_problem(refused, 429, b"address_limited"), refused
            assert status(await gateway.send(ask(anothers))) == 200
            upstream.go.set()
            assert [status(await reader.read()) for reader in (one, other)] == [200, 200]
        assert [status(await gateway.send(ask(mine))) for _ in range(3)] == [200] * 3


async def test_an_address_drips_until_its_bounds_and_everybody_else_is_served_meanwhile(
    tmp_path: Path,
) -> None:
    upstream = Scripted(takes_anything)
    bounds: dict[str, Any] = {"upstream_connections": 4, "address_connections": 40, "body_seconds": 60}
    drips = [post(b"Content-Length: 900")] * 30
    async with running(tmp_path, upstream=upstream, **bounds) as gateway, dripping(gateway, *drips):
        for _ in range(20):
            response = await from_address("127.0.0.2", gateway.port, get(b"/public/a", LAST))
            assert re.match(rb"HTTP/1.1 200 ", response)
        async with queued(gateway, 3) as others:
            assert [status(await reader.read()) for reader in others] == [200] * 3
