"""One request and its answer at their edges: who waits for whom and for how long, and what is never sent twice."""

import asyncio
import re
import resource
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from service_kit.worker import KEEP_ALIVE_SECONDS
from tests.conftest import GatewayUnderTest, Upstream, running, turns
from tests.process import connected, until
from tests.test_sockets import SWITCH, opening
from tests.wire import get, post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"Connection: close"


class Scripted(Upstream):
    """Does with each connection what the test says, and knows which of them have ended."""

    def __init__(self, script: Callable[["Scripted", StreamReader, StreamWriter], Awaitable[None]]) -> None:
        super().__init__()
        self._script = script
        self.go = asyncio.Event()
        self.ended = asyncio.Event()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await self._script(self, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()

    async def head(self, reader: StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.got.append(head)
        return head


def status(response: bytes) -> int:
    return int(response[9:12])


def is_problem(response: bytes, status_code: int, code: bytes) -> bool:
    head, _, body = response.partition(b"\r\n\r\n")
    return (
        status(response) == status_code
        and b"\r\nContent-Type: application/problem+json" in head
        and b'"code":"' + code + b'"' in body
        and b'"request_id":"' in body
    )


async def waits_for_go(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    while head := await upstream.head(reader):
        if b"/public/wait" in head:
            await upstream.go.wait()
        writer.write(OK)


async def asks_for_the_body(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    await upstream.head(reader)
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    upstream.got.append(await reader.readexactly(4))
    writer.write(OK)


async def test_a_client_that_waits_to_be_asked_sends_its_body_when_it_is(tmp_path: Path) -> None:
    upstream = Scripted(asks_for_the_body)
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(post(b"Expect: 100-continue", b"Content-Length: 4", LAST))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert len(upstream.got) == 1
        writer.write(b"body")
        assert status(await reader.read()) == 200
    assert b"\r\nExpect: 100-continue\r\n" in upstream.got[0]
    assert upstream.got[1] == b"body"


async def test_a_client_that_does_not_expect_to_be_asked_hears_no_100(tmp_path: Path) -> None:
    upstream = Scripted(asks_for_the_body)
    async with running(tmp_path, upstream=upstream) as gateway:
        response = await gateway.send(post(b"Content-Length: 4", LAST, body=b"body"))
    assert status(response) == 200
    assert response.count(b"HTTP/1.1") == 1


async def test_a_service_that_refuses_before_it_asks_for_the_body_is_heard(tmp_path: Path) -> None:
    async def refuse(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with running(tmp_path, upstream=Scripted(refuse)) as gateway:
        response = await gateway.send(post(b"Expect: 100-continue", b"Content-Length: 4"))
    assert status(response) == 403
    assert b"\r\nConnection: close\r\n" in response, "the body may come, or not: nobody can tell"


async def test_pipelined_requests_are_asked_and_answered_one_after_the_other(tmp_path: Path) -> None:
    async def when_told(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        while path := (await upstream.head(reader)).split(b" ")[1]:
            await upstream.go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    upstream = Scripted(when_told)
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(b"".join(get(b"/public/%d" % n) for n in range(3)) + get(b"/public/3", LAST))
        await until(lambda: upstream.got, 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        assert len(upstream.got) == 1
        upstream.go.set()
        responses = (await reader.read()).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [response[-9:] for response in responses] == [b"/public/%d" % n for n in range(4)]


async def test_a_client_that_has_said_its_last_gets_the_whole_answer(tmp_path: Path) -> None:
    body = bytes(4 * 2**20)

    async def pour(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with (
        running(tmp_path, upstream=Scripted(pour)) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(get(b"/public/a"))
        writer.write_eof()
        response = await asyncio.wait_for(reader.read(), 20)
    assert status(response) == 200
    assert response.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("said", "theirs"),
    [
        (b"", False),
        (b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n", True),
        (b"dATE: Tue, 15 Nov 1994 08:12:31 GMT\r\n", True),
        # Said of one hop alone, it says nothing to the next.
        (b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nConnection: date\r\n", False),
    ],
)
@pytest.mark.parametrize("status_line", [b"200 OK", b"304 Not Modified", b"503 Service Unavailable"])
async def test_an_answer_that_comes_without_a_date_gets_one(
    gateway: GatewayUnderTest, status_line: bytes, said: bytes, theirs: bool
) -> None:
    """RFC 9110, 6.6.1; one that came is the service's to say."""
    gateway.upstream.response = b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\n\r\n" % (status_line, said)
    response = await gateway.send(get(b"/public/a", LAST))
    [date] = re.findall(rb"(?i)\r\ndate: ([^\r]+)", response)
    if theirs:
        assert date == b"Tue, 15 Nov 1994 08:12:31 GMT"
    else:
        assert abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < 10


@pytest.mark.parametrize(
    "field",
    [
        b'NEL: {"report_to":"x","max_age":1000,"success_fraction":1.0}',
        b'report-to: {"group":"x","max_age":1000,"endpoints":[{"url":"https://x.example"}]}',
        b"Service-Worker-Allowed: /",
        b'CLEAR-SITE-DATA: "*"',
        b'Alt-Svc: h3="x.example:443"',
    ],
)
@pytest.mark.parametrize("interim", [False, True])
async def test_no_service_speaks_for_the_whole_origin(
    gateway: GatewayUnderTest, field: bytes, interim: bool
) -> None:
    """A browser would have every address opened there reported, mailed links included, or run its script before all."""
    early, late = (b"HTTP/1.1 103 Early\r\n%b\r\n\r\n" % field, b"") if interim else (b"", field + b"\r\n")
    gateway.upstream.response = b"%bHTTP/1.1 200 OK\r\n%bX-A: b\r\nContent-Length: 0\r\n\r\n" % (early, late)
    response = (await gateway.send(get(b"/public/a", LAST))).lower()
    assert b"\r\nx-a: b\r\n" in response
    assert field.lower() not in response


async def test_a_service_that_sends_interim_responses_without_end_is_left(gateway: GatewayUnderTest) -> None:
    """One read holds thousands, and each would renew the time that the response has."""
    hints = b"HTTP/1.1 103 \r\n\r\n"
    gateway.upstream.response = hints * 200 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    response = await gateway.send(get(b"/public/a", LAST))
    assert (response.count(b"HTTP/1.1 103"), response.count(b"HTTP/1.1 200")) == (200, 1)
    gateway.upstream.response = hints * 20_000
    response = await gateway.send(get(b"/public/a", LAST))
    assert response.count(b"HTTP/1.1 103") <= 200
    assert b"HTTP/1.1 502" in response


async def test_an_interim_answer_gets_no_date(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    interim, final = (await gateway.send(get(b"/public/a", LAST))).split(b"\r\n\r\n")[:2]
    assert b"Date" not in interim
    assert b"\r\nDate: " in final


async def test_a_part_of_a_thing_crosses_as_a_part(gateway: GatewayUnderTest) -> None:
    part = b'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nETag: "a"\r\nContent-Length: 2\r\n\r\nok'
    gateway.upstream.response = part
    response = await gateway.send(get(b"/public/a", b"Range: bytes=0-1", LAST))
    for line in part.split(b"\r\n"):
        assert line in response.split(b"\r\n")


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"x-nobody-knows"])
@pytest.mark.parametrize("said", [b"200 OK", b"503 Service Unavailable"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_coded_body_crosses_as_it_is_with_its_length_and_tag(
    gateway: GatewayUnderTest, coding: bytes, said: bytes, method: bytes
) -> None:
    body = b"\x1f\x8b\x00 not what it says it is"
    lines = [b"Content-Encoding: " + coding, b"Content-Length: %d" % len(body), b'ETag: "a-' + coding + b'"']
    sent = b"" if method == b"HEAD" else body
    gateway.upstream.response = b"\r\n".join([b"HTTP/1.1 " + said, *lines, b"", sent])
    response = await gateway.send(method + get(b"/public/a", b"Accept-Encoding: " + coding, LAST)[3:])
    head, _, got = response.partition(b"\r\n\r\n")
    assert got == sent
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + said
    assert {*lines} <= {*head.split(b"\r\n")}
    assert b"\r\nAccept-Encoding: " + coding + b"\r\n" in gateway.upstream.got[0]


async def test_a_body_without_a_length_that_grows_too_large_is_a_413_and_the_service_is_told(
    tmp_path: Path,
) -> None:
    upstream = Scripted(reads_a_body)
    async with running(tmp_path, upstream=upstream, body_max_bytes=32_010) as gateway:
        async with connected(gateway.port) as (reader, writer):
            # More than is collected: the service is asked already.
            writer.write(post(b"Transfer-Encoding: chunked", body=b"7d00\r\n" + bytes(32_000) + b"\r\n"))
            await until(lambda: upstream.got, 5)
            writer.write(b"b\r\n0123456789a\r\n0\r\n\r\n")
            response = await asyncio.wait_for(reader.read(), 10)
        assert is_problem(response, 413, b"body_too_large"), response
        await asyncio.wait_for(upstream.ended.wait(), 5)
    assert len(upstream.got) == 1, "never a whole one"


# Deadlines.


async def says_nothing(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    await upstream.head(reader)
    await reader.read()


async def test_a_service_that_does_not_answer_in_time_is_a_504_and_is_told(tmp_path: Path) -> None:
    upstream = Scripted(says_nothing)
    async with running(tmp_path, upstream=upstream, first_byte_seconds=0.5) as gateway:
        started = time.monotonic()
        response = await gateway.send(get(b"/public/a"))
        assert time.monotonic() - started >= 0.5
        assert is_problem(response, 504, b"upstream_timeout"), response
        await asyncio.wait_for(upstream.ended.wait(), 5)
    assert len(upstream.got) == 1, "it may have been done: it is not asked again"


async def test_a_route_has_a_deadline_of_its_own(tmp_path: Path) -> None:
    table = (
        '[[routes]]\nname = "quick"\npath = "/quick"\nmethods = ["GET"]\naccess = "public"\n'
        "first_byte_seconds = 0.3\n"
    )
    async with running(
        tmp_path, upstream=Scripted(says_nothing), table=table, first_byte_seconds=60
    ) as gateway:
        assert status(await gateway.send(get(b"/quick"))) == 504


async def test_an_answer_that_stops_half_way_is_cut_and_the_service_told(tmp_path: Path) -> None:
    async def half(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await reader.read()

    upstream = Scripted(half)
    async with running(tmp_path, upstream=upstream, idle_seconds=0.5) as gateway:
        async with connected(gateway.port) as (reader, writer):
            writer.write(get(b"/public/a"))
            await reader.readuntil(b"half")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 10)
        await asyncio.wait_for(upstream.ended.wait(), 5)


async def reads_a_body(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
    head = await upstream.head(reader)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 10**9)
    upstream.got.append(await reader.readexactly(length))
    writer.write(OK)


async def test_a_body_that_stops_is_a_408_and_never_a_whole_one_to_the_service(tmp_path: Path) -> None:
    upstream = Scripted(reads_a_body)
    async with running(tmp_path, upstream=upstream, idle_seconds=0.5) as gateway:
        async with connected(gateway.port) as (reader, writer):
            writer.write(post(b"Content-Length: 26000", body=b"some of it"))
            response = await asyncio.wait_for(reader.read(), 10)
        assert is_problem(response, 408, b"request_timeout"), response
        await asyncio.wait_for(upstream.ended.wait(), 5)
    assert len(upstream.got) == 1


async def test_a_body_that_is_slow_but_steady_has_the_time_it_needs(tmp_path: Path) -> None:
    upstream = Scripted(reads_a_body)
    async with (
        running(tmp_path, upstream=upstream, idle_seconds=1, first_byte_seconds=1) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(post(b"Content-Length: 26", LAST))
        for _ in range(26):
            writer.write(b"a")
            await asyncio.sleep(0.1)
        assert status(await reader.read()) == 200
    assert upstream.got[1] == b"a" * 26


async def test_a_service_that_cannot_be_connected_to_is_a_503_in_time(tmp_path: Path) -> None:
    """A listener whose queue is full drops what comes, as a host behind a broken wire does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        concurrency = [socket.socket() for _ in range(4)]
        for one in concurrency:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        upstreams = {"echo": f"127.0.0.1:{full.getsockname()[1]}"}
        async with running(tmp_path, upstreams=upstreams, connect_seconds=0.3) as gateway:
            started = time.monotonic()
            response = await gateway.send(post(b"Content-Length: 2", body=b"ab"))
            assert time.monotonic() - started >= 0.3
        for one in concurrency:
            one.close()
    assert is_problem(response, 503, b"upstream_unavailable"), response
    assert b"\r\nRetry-After: " in response


def test_a_kept_connection_is_given_up_before_its_service_gives_it_up() -> None:
    assert Settings.model_fields["upstream_idle_seconds"].default < KEEP_ALIVE_SECONDS
    assert Settings.model_fields["keepalive_seconds"].default > 60, (
        "longer than usual load balancers keep theirs"
    )


# Bounds.


async def test_where_few_files_may_be_open_there_are_fewer_connections_and_an_address_has_a_quarter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (8, 8))
    async with running(tmp_path) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(get(b"/public/a"))
        await reader.readuntil(b"ok")
        assert is_problem(await gateway.send(get(b"/public/a")), 429, b"address_limited")
        async with connected(gateway.port, source="127.0.0.2") as (another, others):
            others.write(get(b"/public/a"))
            await another.readuntil(b"ok")
    assert "at most 4 connections instead of 10000" in caplog.text


async def test_whoever_comes_is_served_though_all_places_are_taken_by_those_who_ask_nothing(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, connections_max=2) as gateway, AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connected(gateway.port)) for _ in range(2)]
        for reader, writer in waiting:
            writer.write(get(b"/public/a"))
            await reader.readuntil(b"ok")
            await asyncio.sleep(0.2)  # a tick of the gateway's clock
        assert status(await gateway.send(get(b"/public/b"))) == 200
        (longest, _), (reader, writer) = waiting
        assert await longest.read() == b""
        writer.write(get(b"/public/c"))
        await reader.readuntil(b"ok")


async def test_a_connection_beyond_the_cap_hears_why_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    upstream = Scripted(waits_for_go)
    async with (
        running(tmp_path, upstream=upstream, connections_max=2) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(get(b"/public/wait"))
        await until(lambda: upstream.got, 5)
        async with connected(gateway.port):
            response = await gateway.send(get(b"/public/a"))
            assert is_problem(response, 503, b"overloaded"), response
            assert b"\r\nRetry-After: 1\r\n" in response
            assert b"\r\nConnection: close\r\n" in response
            upstream.go.set()
            await reader.readuntil(b"ok")

        async def has_room() -> bool:
            return status(await gateway.send(get(b"/public/a", LAST))) == 200

        await until(has_room, 10)


async def test_who_finds_the_queue_of_a_service_full_hears_it_at_once(tmp_path: Path) -> None:
    async def when_told(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        while await upstream.head(reader):
            await upstream.go.wait()
            writer.write(OK)

    upstream = Scripted(when_told)
    bounds: dict[str, Any] = {"upstream_connections": 1, "upstream_outstanding": 2}
    async with running(tmp_path, upstream=upstream, **bounds) as gateway, queued(gateway, 2) as waiting:
        await until(lambda: upstream.got, 5)
        response = await gateway.send(get(b"/public/late"))
        assert is_problem(response, 503, b"overloaded"), response
        assert b"\r\nRetry-After: " in response
        assert len(upstream.got) == 1, "the other waits for the one connection"
        upstream.go.set()
        assert [status(await reader.read()) for reader in waiting] == [200, 200]


@asynccontextmanager
async def queued(gateway: GatewayUnderTest, clients: int) -> AsyncIterator[list[StreamReader]]:
    """Clients whose requests the gateway has read."""
    if not clients:
        yield []
        return
    async with connected(gateway.port) as (reader, writer):
        writer.write(get(b"/public/a", LAST))
        for _ in range(20):
            await asyncio.sleep(0)
        async with queued(gateway, clients - 1) as others:
            yield [reader, *others]


# A service that fails.


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_kept_connections_that_the_service_has_closed_fail_nobody(
    tmp_path: Path, method: bytes
) -> None:
    kept: list[StreamWriter] = []

    async def serve(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        kept.append(writer)
        while await upstream.head(reader):
            if not upstream.go.is_set():  # until all are here, each needs a connection of its own
                await upstream.go.wait()
            writer.write(OK)

    upstream = Scripted(serve)
    async with running(tmp_path, upstream=upstream) as gateway:
        ask = method + get(b"/public/a", LAST)[3:]
        first = [asyncio.create_task(gateway.send(ask, wait=20)) for _ in range(20)]
        await until(lambda: len(kept) == 20, 10)
        upstream.go.set()
        assert [status(response) for response in await asyncio.gather(*first)] == [200] * 20
        for writer in kept:
            writer.transport.abort()
        responses = await asyncio.gather(*(gateway.send(ask, wait=20) for _ in range(20)))
        assert [status(response) for response in responses] == [200] * 20


async def test_in_a_storm_of_failures_a_fifth_of_the_requests_is_repeated_at_most(
    gateway: GatewayUnderTest,
) -> None:
    """Every second request gets no answer, asked twice or not: too few in a row for the breaker."""
    for _ in range(30):
        gateway.upstream.closes = 2
        assert status(await gateway.send(get(b"/public/a", LAST))) == 502
        gateway.upstream.closes = 0
        assert status(await gateway.send(get(b"/public/a", LAST))) == 200
    assert 60 + 3 <= len(gateway.upstream.got) <= 60 * 1.2


async def test_an_answer_is_an_answer_and_a_5xx_is_never_asked_for_again(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    responses = [await gateway.send(get(b"/public/a", LAST)) for _ in range(20)]
    assert {(status(response), response[-4:]) for response in responses} == {(503, b"busy")}
    assert len(gateway.upstream.got) == 20


async def test_a_service_that_is_down_is_asked_once_a_second_and_serves_all_when_it_is_back(
    gateway: GatewayUnderTest,
) -> None:
    ask = post(b"Content-Length: 0", LAST)  # never repeated, so that each that comes through is one request
    gateway.upstream.closes = 1000
    responses = [await gateway.send(ask) for _ in range(5)]
    assert [status(response) for response in responses] == [502] * 5
    gateway.upstream.got.clear()
    started = time.monotonic()
    while time.monotonic() - started < 2.5:
        told = await gateway.send(ask)
        assert is_problem(told, 503, b"upstream_down") or is_problem(told, 502, b"bad_gateway"), told
        await asyncio.sleep(0.001)  # a fast machine would ask more often than an address may
    probes = len(gateway.upstream.got)
    assert 1 <= probes <= time.monotonic() - started
    gateway.upstream.closes = 0

    async def is_back() -> bool:
        return status(await gateway.send(ask)) == 200

    await until(is_back, 10)
    responses = await asyncio.gather(*(gateway.send(ask) for _ in range(10)))
    assert [status(response) for response in responses] == [200] * 10


async def test_a_client_that_reads_late_gets_all_of_the_last_answer(tmp_path: Path) -> None:
    upstream = Upstream()
    upstream.response = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000)
    async with (
        running(tmp_path, upstream=upstream, sends=4096) as gateway,
        connected(gateway.port, 4096) as client,
    ):
        reader, writer = client
        writer.write(get(b"/public/a", LAST))
        await asyncio.sleep(3)  # longer than a client is given that only has to hear of the end
        assert (await asyncio.wait_for(reader.read(-1), 30)).endswith(bytes(60000))


@pytest.mark.parametrize("last", [(), (LAST,)])
async def test_a_client_that_never_reads_its_answer_is_given_up(
    tmp_path: Path, last: tuple[bytes, ...]
) -> None:
    upstream = Upstream()
    upstream.response = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000)
    bounds: dict[str, Any] = {"connections_max": 1, "keepalive_seconds": 0.2, "idle_seconds": 0.2}
    async with (
        running(tmp_path, upstream=upstream, sends=4096, **bounds) as gateway,
        connected(gateway.port, 4096) as (_, writer),
    ):
        writer.write(get(b"/public/a", *last))

        async def there_is_room() -> bool:
            return status(await gateway.send(get(b"/nowhere", LAST))) == 404

        assert not await there_is_room()
        await until(there_is_room, 20, "it holds its place for ever")


async def test_a_page_that_takes_long_is_answered_before_the_request_behind_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        internal = {"echo": f"127.0.0.1:{silent.getsockname()[1]}"}
        async with running(tmp_path, head_seconds=0.3, upstream_internal=internal) as gateway:
            told = await gateway.send(get(b"/") + get(b"/nowhere", LAST), 20)
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", told)] == [200, 404]


async def test_whoever_could_not_send_the_body_for_want_of_a_connection_did_not_come_late(
    tmp_path: Path,
) -> None:
    table = '[[routes]]\nname = "echo.slow"\npath = "/slow"\nmethods = ["GET"]\naccess = "public"\n'

    async def silence(upstream: Scripted, reader: StreamReader, _: StreamWriter) -> None:
        await upstream.head(reader)
        await upstream.go.wait()

    upstream = Scripted(silence)
    bounds: dict[str, Any] = {"upstream_connections": 1, "first_byte_seconds": 0.3, "idle_seconds": 0.3}
    async with running(
        tmp_path, upstream=upstream, table=table + "first_byte_seconds = 60\n", **bounds
    ) as gateway:
        async with connected(gateway.port) as (_, writer):
            writer.write(get(b"/slow"))
            await until(lambda: upstream.got)
            told = await gateway.send(post(b"Content-Length: 50000", body=b"ab"))
            upstream.go.set()
        assert is_problem(told, 504, b"upstream_timeout"), told


async def test_a_client_that_ended_its_half_before_the_switch_is_heard_to_have_done_so(
    tmp_path: Path,
) -> None:
    async def switch(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        await upstream.go.wait()
        writer.write(SWITCH)
        await reader.read()

    upstream = Scripted(switch)
    async with running(tmp_path, upstream=upstream) as gateway, connected(gateway.port) as (reader, writer):
        writer.write(opening("/socket", gateway.issuer.token()))
        await until(lambda: upstream.got)
        writer.write_eof()
        await turns()
        upstream.go.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await asyncio.wait_for(upstream.ended.wait(), 5)
