"""Clients that close their sending half and wait for their answer."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

import pytest

from gateway.server import half_closed
from tests.conftest import GatewayUnderTest, running
from tests.process import until
from tests.test_exchange import LAST, OK, Scripted, is_problem, says_nothing, status
from tests.wire import get

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SLOW = 1.3  # longer than whoever may be gone is waited for when there are many


async def slowly(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    while await upstream.head(reader):
        await asyncio.sleep(SLOW)
        writer.write(OK)


async def half(gateway: GatewayUnderTest, raw: bytes) -> bytes:
    """What a client gets that has said its last with its request; it passes over what asks whether it is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(raw)
    writer.write_eof()
    try:
        received = await asyncio.wait_for(reader.read(), 20)
        assert received.count(CONTINUE) <= 3 * raw.count(b"GET ")
        return received.replace(CONTINUE, b"")
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_client_that_closed_its_half_gets_its_answers_from_a_slow_service(tmp_path: Path) -> None:
    async with running(tmp_path, upstream=Scripted(slowly)) as gateway:
        response = await half(gateway, get(b"/public/a") + get(b"/public/b", LAST))
    assert response.count(b"HTTP/1.1 200 ") == 2


async def test_a_client_that_closed_its_half_has_the_routes_deadline_and_hears_when_it_is_over(
    tmp_path: Path,
) -> None:
    upstream = Scripted(says_nothing)
    async with running(tmp_path, upstream=upstream, first_byte_seconds=SLOW) as gateway:
        started = time.monotonic()
        response = await half(gateway, get(b"/public/a"))
        assert time.monotonic() - started >= SLOW
        assert is_problem(response, 504, b"upstream_timeout"), response
        await asyncio.wait_for(upstream.ended.wait(), 5)


async def test_a_client_that_is_gone_is_found_long_before_the_routes_deadline(tmp_path: Path) -> None:
    upstream = Scripted(says_nothing)
    async with running(tmp_path, upstream=upstream) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(get(b"/public/a"))
        await until(lambda: upstream.got, 5)
        writer.close()  # a FIN, and a reset for whatever comes then
        await asyncio.wait_for(upstream.ended.wait(), 2)


async def test_a_client_of_http_1_0_that_closed_its_half_hears_nothing_but_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path, upstream=Scripted(slowly)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(get(b"/public/a").replace(b"HTTP/1.1", b"HTTP/1.0"))
        writer.write_eof()
        assert status(await asyncio.wait_for(reader.read(), 20)) == 200
        writer.close()


@pytest.mark.parametrize("bound", ["_MOST", "_OF_AN_ADDRESS"])
async def test_beyond_a_bound_a_client_that_closed_its_half_is_waited_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(half_closed, bound, 1)
    proxies: dict[str, Any] = {"trusted_proxies": ("127.0.0.1/32",)}

    def ask(client: bytes) -> bytes:
        return get(b"/public/a", b"X-Forwarded-For: 192.0.2." + client)

    upstream = Scripted(slowly)
    async with running(tmp_path, upstream=upstream, **proxies) as gateway:
        for _ in range(2):  # the place is given back
            upstream.got.clear()
            first = asyncio.create_task(half(gateway, ask(b"1")))
            await until(lambda: upstream.got, 5)
            second, third = await asyncio.gather(half(gateway, ask(b"1")), half(gateway, ask(b"2")))
            assert status(await first) == 200
            assert second == b""
            assert (third == b"") is (bound == "_MOST"), "another address has places of its own"


async def test_beyond_a_bound_an_answer_that_comes_soon_still_reaches_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_closed, "_MOST", 0)
    async with running(tmp_path) as gateway:
        assert status(await half(gateway, get(b"/public/a"))) == 200
