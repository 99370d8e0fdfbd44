"""A real gateway under what wears one out: large bodies, clients that leave, crowds, forged tokens, readers that stop.

Each is here in a short form; `pytest -m endurance` runs the long forms, whose figures are those that are promised.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from benchmarks.processes import Memory

from gateway.config import Settings
from gateway.upstream.request_body import COLLECTED_MOST
from service_kit.testing import TestIssuer
from tests.conftest import running
from tests.process import BLOCK, Gateway, connected, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
TABLE = """
[[routes]]
name = "echo.a"
path = "/a"
methods = ["GET"]
access = "public"

[[routes]]
name = "echo.public"
path = "/public/*"
methods = ["GET", "PUT"]
access = "public"
body_max_bytes = 2147483648

[[routes]]
name = "echo.private"
path = "/private"
methods = ["GET"]
"""


def long(value: int) -> object:
    return pytest.param(value, marks=pytest.mark.endurance)


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Does what the path says: /public/say/WORD, /public/slow/SECONDS, /public/down/BYTES, /public/up, /public/deaf."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            what, _, value = head.split(b" ")[1].removeprefix(b"/public/").partition(b"/")
            left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if what == b"deaf":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await asyncio.sleep(3600)
            while left:
                left -= len(await reader.readexactly(min(left, len(BLOCK))))
            if what == b"slow":
                await asyncio.sleep(float(value))
            if what == b"down":
                await _pour(writer, int(value))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(value), value))
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _pour(writer: asyncio.StreamWriter, left: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left:
        writer.write(BLOCK[:left])
        left -= min(left, len(BLOCK))
        await writer.drain()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> TestIssuer:
    return TestIssuer()


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="gateway")
async def _gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    async with serving(folder, upstream, TABLE, ACCESS_LOG_SHARE="0") as gateway:
        yield gateway


def request(target: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


async def ask(port: int, target: str) -> tuple[int, bytes]:
    """Status and body of an answer with a length."""
    async with connected(port) as (reader, writer):
        writer.write(request(target))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)


async def download(gateway: Gateway, size: int) -> None:
    async with connected(gateway.port) as (reader, writer):
        writer.write(request(f"/public/down/{size}"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        while size:
            data = await reader.read(len(BLOCK))
            assert data, "it broke off"
            size -= len(data)


async def upload(gateway: Gateway, size: int) -> None:
    async with connected(gateway.port) as (reader, writer):
        writer.write(request("/public/up", f"Content-Length: {size}", method="PUT"))
        for _ in range(size // len(BLOCK)):
            writer.write(BLOCK)
            await writer.drain()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def at_rest(gateway: Gateway) -> bool:
    """Whether nothing is under way to the service."""
    names = (
        'gateway_upstream_connections{service="echo",state="busy"',
        "gateway_upstream_outstanding",
        "gateway_upstream_waiting",
    )
    return [await gateway.metric(name) for name in names] == [0, 0, 0]


@pytest.mark.parametrize("size", [64 * MIB, long(1024 * MIB)])
async def test_a_body_of_any_size_passes_each_way_in_a_memory_of_its_own_size_never(
    gateway: Gateway, size: int
) -> None:
    for warm in (download, upload):
        await warm(gateway, 8 * MIB)
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    await download(gateway, size)
    await upload(gateway, size)
    grown = (memory.peak() - before) / MIB
    print(f"{size // MIB} MiB each way: the worker grew by {grown:.2f} MiB")
    assert grown <= 8


@pytest.mark.parametrize("clients", [300, long(3000)])
async def test_after_many_clients_left_at_any_moment_everyone_gets_their_own_answer(
    gateway: Gateway, clients: int
) -> None:
    chance = random.Random(7)
    for first in range(0, clients, 50):
        await asyncio.gather(*(_leave(gateway, chance) for _ in range(first, first + 50)))
    responses = await asyncio.wait_for(
        asyncio.gather(*(ask(gateway.port, f"/public/say/{n}") for n in range(100))), 5
    )
    assert responses == [(200, b"%d" % n) for n in range(100)]
    await until(lambda: at_rest(gateway), 5, "a connection leaked")


async def _is_well(gateway: Gateway) -> bool:
    return await ask(gateway.port, "/public/say/well") == (200, b"well")


async def _leave(gateway: Gateway, chance: random.Random) -> None:
    """A client that goes away in the middle of its request or of its answer."""
    raw = chance.choice(
        [
            request("/public/say/nobody"),
            request("/public/slow/0.2"),
            request(f"/public/down/{MIB}"),
            request("/public/up", f"Content-Length: {MIB}", method="PUT") + BLOCK,
        ]
    )
    async with connected(gateway.port) as (reader, writer):
        writer.write(raw[: chance.randrange(1, len(raw))] if chance.random() < 0.3 else raw)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(chance.random() * 0.1):
                await reader.read(chance.randrange(1, len(BLOCK)))
        writer.transport.abort()


@pytest.mark.parametrize("requests", [300, long(2000)])
async def test_a_crowd_waits_for_a_slow_service_together_not_one_after_the_other(
    gateway: Gateway, requests: int
) -> None:
    took = {}
    for port in (gateway.upstream_port, gateway.port):
        started = time.perf_counter()
        responses = await asyncio.gather(*(ask(port, "/public/slow/1") for _ in range(requests)))
        took[port] = time.perf_counter() - started
        assert {status for status, _ in responses} == {200}
    direct, through = took.values()
    print(f"{requests} at once, a second each: {through:.2f} s, {direct:.2f} s without a gateway")
    assert through <= 2.5 * direct


@pytest.mark.parametrize("tokens", [1000, long(10_000)])
async def test_malformed_tokens_are_refused_for_less_than_a_millisecond_each(
    gateway: Gateway, issuer: TestIssuer, tokens: int
) -> None:
    chance = random.Random(7)
    good = issuer.token()
    before = gateway.cpu_seconds()
    statuses: dict[int, int] = {}
    async with connected(gateway.port) as (reader, writer):
        for _ in range(tokens):
            writer.write(request("/private", f"Authorization: Bearer {malformed(good, chance)}"))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(
                int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            )
            status = int(head[9:12])
            statuses[status] = statuses.get(status, 0) + 1
    each = (gateway.cpu_seconds() - before) / tokens * 1e3
    print(f"{tokens} malformed tokens: {each:.3f} ms each")
    assert statuses == {401: tokens}
    assert each <= 1


def malformed(token: str, chance: random.Random) -> str:
    """The token, so damaged that it is none."""
    head, claims, signature = token.split(".")
    at = chance.randrange(1, len(claims))
    return chance.choice(
        [
            f"{head}.{claims}",
            f"{head}.{claims}.{signature}.{signature}",
            f"{head}.{claims[:at]}!{claims[at:]}.{signature}",
            f"{head}.{claims}.{signature[:-1]}",
            f"{head}.{claims}.{signature}==",
            f"{head[:-2]}.{claims}.{signature}",
            f".{claims}.{signature}",
            f"{head}..{signature}",
            "x" * chance.randrange(1, 8000),
            "eyJhbGciOiJub25lIn0." + claims + ".",
            "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + claims + "." + signature,
            "é".encode().decode("latin-1") + token,
        ]
    )


@pytest.mark.parametrize("readers", [100, long(500)])
async def test_a_reader_that_stops_costs_less_than_a_mebibyte(gateway: Gateway, readers: int) -> None:
    await download(gateway, 64 * MIB)  # what the allocator keeps after any large answer is not the reader's
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(readers):
            _, writer = await stack.enter_async_context(connected(gateway.port, receives=4096))
            writer.write(request(f"/public/down/{64 * MIB}"))
        await settled(memory)
    each = (memory.peak() - before) / readers / MIB
    print(f"{readers} readers that stopped: {each:.3f} MiB each")
    assert each <= 1
    await until(lambda: at_rest(gateway), 5)


@pytest.mark.parametrize("readers", [100, long(800)])
async def test_those_who_ask_for_a_page_and_never_read_it_share_one_copy_of_it(
    gateway: Gateway, readers: int
) -> None:
    assert await gateway.status("/docs/swagger-ui-bundle.js") == 200
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(readers):
            source = f"127.0.0.{2 + number // 90}"  # an address asks for a hundred pages at once
            _, writer = await stack.enter_async_context(connected(gateway.port, 4096, source))
            writer.write(request("/docs/swagger-ui-bundle.js"))
        await settled(memory)
        grown = (memory.peak() - before) / MIB
    print(f"{readers} that never read the page: {grown:.1f} MiB")
    assert grown <= 32 * readers / 800 + 2
    assert await gateway.status("/docs/swagger-ui-bundle.js") == 200


@pytest.mark.parametrize("connections", [100, long(500)])
async def test_a_connection_holds_no_more_than_a_head_and_a_quarter_mebibyte_each_way(
    gateway: Gateway, connections: int
) -> None:
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(connections):
            _, writer = await stack.enter_async_context(connected(gateway.port, receives=4096))
            if number % 2:  # nobody reads the body behind this head
                writer.write(request("/public/deaf", f"Content-Length: {MIB}", method="PUT") + bytes(MIB))
            else:  # nobody reads the answer, and more requests wait behind
                writer.write(request(f"/public/down/{64 * MIB}") + request("/public/say/" + "a" * 7000) * 50)
        await settled(memory)
    each = (memory.peak() - before) / connections / 1024
    print(f"{connections} connections that are full both ways: {each:.0f} KiB each")
    assert each <= 16 + 2 * 256 + 16
    # A service that does not notice who left is waited for as long as for an answer.
    await until(lambda: at_rest(gateway), 15)


@pytest.mark.parametrize("connections", [100, long(800)])
async def test_connections_that_pipeline_without_a_pause_hold_little(
    gateway: Gateway, connections: int
) -> None:
    asked = request("/public/say/a") * 200
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()

    got = 0

    async def pipeline(number: int) -> None:
        async with connected(gateway.port, 4096, f"127.0.0.{2 + number // 90}") as (reader, writer):
            writer.transport.set_write_buffer_limits(high=len(asked))

            async def read() -> None:
                nonlocal got
                while data := await reader.read(4096):
                    got += len(data)
                    await asyncio.sleep(0.01 * (number % 3))

            reading = asyncio.create_task(read())
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(3 * connections / 100):
                    while True:
                        writer.write(asked)
                        await writer.drain()
            reading.cancel()

    await asyncio.gather(*map(pipeline, range(connections)))
    each = (memory.peak() - before) / connections / 1024
    print(f"{connections} connections that pipeline: {each:.0f} KiB each, {got} bytes of answers")
    assert got >= connections * 200  # each had an answer at least
    # And 2 MiB for whatever is used for the first time.
    assert each <= 32 * 1024 / 800 + 2048 / connections
    await until(lambda: at_rest(gateway), 15)


@pytest.mark.parametrize("clients", [300, long(2760)])
async def test_dripping_bodies_take_their_bytes_of_memory_and_no_connection_to_the_service(
    gateway: Gateway, clients: int
) -> None:
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(clients):
            _, writer = await stack.enter_async_context(connected(gateway.port))
            writer.write(request("/public/up", f"Content-Length: {COLLECTED_MOST}", method="PUT"))
            for _ in range(3):
                writer.write(bytes(COLLECTED_MOST // 4))
                await writer.drain()
        await settled(memory)
        # Those beyond what all of them may hold stream.
        streaming = max(0, clients * (3 * COLLECTED_MOST // 4) - 32 * MIB) / (COLLECTED_MOST / 2)
        assert await gateway.metric("gateway_upstream_outstanding") <= streaming
        # The upstream shares this busy process: the gateway may not reach it at once.
        await until(lambda: _is_well(gateway), 10)
    each = (memory.peak() - before) / clients / 1024
    print(f"{clients} bodies that drip: {each:.0f} KiB each")
    assert each <= 16 + 24  # the body, and what any connection costs
    await until(lambda: at_rest(gateway), 5)


@pytest.mark.parametrize(
    ("target", "responses"), [("/public/say/a", 200), ("/public/say/a", 0), ("/nowhere", 0)]
)
async def test_requests_faster_than_their_answers_wait_in_the_clients_own_memory(
    gateway: Gateway, target: str, responses: int
) -> None:
    memory = gateway.memory()
    before = memory.resident()
    memory.mark()
    async with connected(gateway.port, receives=4096) as (reader, writer):
        writer.write(request(target) * (32 * MIB // len(request(target))))
        for _ in range(responses):
            await reader.readuntil(b"\r\n\r\na")
        if not responses:
            await settled(memory)
        grown = (memory.peak() - before) / MIB
    print(f"32 MiB of requests to {target}, {responses} answers read: {grown:.1f} MiB")
    assert grown <= 4


async def settled(memory: Memory) -> None:
    """Waits until as much has come as will come."""
    before = -1
    while (now := memory.peak()) > before:
        before = now
        await asyncio.sleep(0.5)


async def test_a_head_that_drips_is_given_up_in_time_however_steadily_it_drips(tmp_path: Path) -> None:
    seconds = 1.0
    assert Settings.model_fields["head_seconds"].default <= 10
    async with running(tmp_path, head_seconds=seconds) as gateway:
        for early in (b"", request("/public/a")):  # the first request of a connection, and a later one
            started = time.perf_counter()  # the gateway's time begins no earlier
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(early)
            if early:
                await reader.readuntil(b"ok")
            got = asyncio.create_task(reader.read())
            for byte in itertools.chain(b"GET /public/a HTTP/1.1\r\nHost: a\r\nA: ", itertools.repeat(97)):
                writer.write(bytes([byte]))
                if (await asyncio.wait({got}, timeout=0.02))[0]:
                    break
            assert got.result().startswith(b"HTTP/1.1 408 ")
            assert time.perf_counter() - started >= seconds
            writer.close()
