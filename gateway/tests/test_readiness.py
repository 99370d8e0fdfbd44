"""No request goes to a container that is not ready: its name leads to it, and it listens, before it can serve."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream import probe
from gateway.upstream.probe import Finding
from service_kit.testing import free_port
from tests.conftest import GatewayUnderTest, internal, running, turns
from tests.process import until
from tests.wire import get

NAME = "service.test"
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Release: %b\r\n\r\n"
UNREADY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Replica:
    """A container: an address of the loopback network, a public and an internal bind, and a word about itself."""

    def __init__(self, address: str, town: "Town") -> None:
        self.address = address
        self._town = town
        self.says = UNREADY
        self.fails = 0  # requests that get no answer
        self.served: list[bool] = []  # of each request, whether it was ready then
        self.asked = 0
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def become_ready(self, release: bytes = b"echo/1.0.0") -> None:
        self.says = READY % release

    async def listen(self, internal: bool = True) -> None:
        self._servers = [await asyncio.start_server(self._serve, self.address, self._town.port)]
        if internal:
            self._servers.append(
                await asyncio.start_server(self._tell, self.address, self._town.internal_port)
            )

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await turns()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.served.append(self.says is not UNREADY)
                if self.fails:
                    self.fails -= 1
                    break
                said = self.address.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"GET /readyz HTTP/1.1\r\n")
            self.asked += 1
            writer.write(self.says)
        finally:
            writer.close()


class Town:
    """The name, where it leads at present, and the ports of all replicas."""

    def __init__(self) -> None:
        self.port, self.internal_port = free_port(), free_port()
        self.leads_to: list[str] = []
        self.replicas: list[Replica] = []

    async def settle(self, address: str, ready: bool = False, internal: bool = True) -> Replica:
        replica = Replica(address, self)
        if ready:
            replica.become_ready()
        self.replicas.append(replica)
        await replica.listen(internal)
        self.leads_to.append(address)
        return replica

    def resolve(self, host: str | bytes, port: Any, *_: Any, **__: Any) -> list[Any]:
        addresses = self.leads_to if host in (NAME, NAME.encode()) else [host]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.fixture(name="town")
async def _town(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    town = Town()
    monkeypatch.setattr(socket, "getaddrinfo", town.resolve)
    yield town
    for replica in town.replicas:
        await replica.close()


@asynccontextmanager
async def started(
    folder: Path, town: Town, probe: str = "on", **settings: Any
) -> AsyncIterator[GatewayUnderTest]:
    async with running(
        folder,
        upstreams={"echo": f"{NAME}:{town.port}"},
        upstream_internal={"echo": f"{NAME}:{town.internal_port}"},
        upstream_probe=probe,
        **settings,
    ) as gateway:
        yield gateway


@pytest.fixture(name="gateway")
async def _house(tmp_path: Path, town: Town) -> AsyncIterator[GatewayUnderTest]:
    async with started(tmp_path, town) as gateway:
        yield gateway


async def said(gateway: GatewayUnderTest) -> str:
    """Who answered, or the status."""
    response = await gateway.send(get(b"/public/a", b"Connection: close"))
    body = response.partition(b"\r\n\r\n")[2] if response.startswith(b"HTTP/1.1 200 ") else response[9:12]
    return body.decode()


async def test_of_two_addresses_the_one_that_is_not_ready_gets_nothing_until_it_is(
    town: Town, gateway: GatewayUnderTest
) -> None:
    ready = await town.settle("127.0.0.2", ready=True)
    assert await said(gateway) == "127.0.0.2"
    starting = await town.settle("127.0.0.3")
    await until(lambda: starting.asked > 1, 10)
    responses = [await asyncio.gather(*(said(gateway) for _ in range(8))) for _ in range(10)]
    assert {one for several in responses for one in several} == {"127.0.0.2"}
    assert starting.served == []
    starting.become_ready()
    await until(lambda: _gets_some(gateway, starting), 5)
    assert all(starting.served)
    assert ready.served


async def _gets_some(gateway: GatewayUnderTest, replica: Replica) -> bool:
    responses = await asyncio.gather(*(said(gateway) for _ in range(4)))
    assert "503" not in responses
    return bool(replica.served)


async def test_the_only_address_gets_nothing_before_it_is_ready_and_the_first_request_after_that(
    town: Town, gateway: GatewayUnderTest
) -> None:
    replica = await town.settle("127.0.0.2")
    began = time.monotonic()
    responses = await asyncio.gather(*(said(gateway) for _ in range(20)))  # more than open a breaker
    assert {*responses} == {"503"}
    assert time.monotonic() - began < 5  # what is promised of a service that is away
    assert replica.served == []
    replica.become_ready()
    asked = replica.asked
    await until(lambda: replica.asked > asked, 5)
    assert await said(gateway) == "127.0.0.2"


async def test_who_asks_while_a_service_becomes_ready_waits_for_it_and_is_served(
    town: Town, gateway: GatewayUnderTest
) -> None:
    replica = await town.settle("127.0.0.2")
    await until(lambda: replica.asked, 5)
    asking = asyncio.create_task(said(gateway))
    await asyncio.sleep(0)
    replica.become_ready()
    assert await asking == "127.0.0.2"
    assert replica.served == [True]


async def test_an_address_that_failed_three_times_is_asked_again_before_it_gets_more(
    town: Town, gateway: GatewayUnderTest
) -> None:
    bad = await town.settle("127.0.0.2", ready=True)
    good = await town.settle("127.0.0.3", ready=True)
    await until(lambda: _gets_some(gateway, bad), 5)
    asked, bad.says, bad.fails = bad.asked, UNREADY, 1000
    for _ in range(100):
        if bad.asked > asked:
            break
        await said(gateway)
    failures = bad.served.count(False)
    assert failures <= 4  # the first was the fault of a connection that had been kept
    assert {await said(gateway) for _ in range(20)} == {"127.0.0.3"}
    assert bad.served.count(False) == failures
    assert good.served
    bad.fails = 0
    bad.become_ready()
    before = len(bad.served)
    await until(lambda: _more(gateway, bad, before), 10)


async def _more(gateway: GatewayUnderTest, replica: Replica, before: int) -> bool:
    await asyncio.gather(*(said(gateway) for _ in range(4)))
    return len(replica.served) > before


async def test_a_service_that_says_everywhere_that_it_is_not_ready_is_asked_all_the_same_if_it_was(
    town: Town, gateway: GatewayUnderTest
) -> None:
    """What is wrong may be what /readyz looks at, and concern few requests."""
    replica = await town.settle("127.0.0.2", ready=True)
    assert await said(gateway) == "127.0.0.2"
    asked, replica.says, replica.fails = replica.asked, UNREADY, 1000
    while replica.asked <= asked + 1:
        await said(gateway)
    replica.fails = 0
    await until(lambda: _is_served(gateway, "127.0.0.2"), 5)  # the breaker has to close


async def _is_served(gateway: GatewayUnderTest, by: str) -> bool:
    return await said(gateway) == by


async def test_a_container_that_starts_anew_at_its_address_is_new(
    town: Town, gateway: GatewayUnderTest
) -> None:
    replica = await town.settle("127.0.0.2", ready=True)
    assert await said(gateway) == "127.0.0.2"
    await replica.close()
    assert await said(gateway) == "503"
    town.leads_to.clear()
    again = await town.settle("127.0.0.2")
    await until(lambda: again.asked > 1, 5)
    assert {await said(gateway) for _ in range(10)} == {"503"}
    assert again.served == []
    again.become_ready()
    await until(lambda: _is_served(gateway, "127.0.0.2"), 5)


async def test_a_service_without_an_internal_bind_gets_requests_and_the_log_says_so(
    town: Town, gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    replica = await town.settle("127.0.0.2", internal=False)
    await until(lambda: _is_served(gateway, "127.0.0.2"), 10)
    assert "gets requests unasked: nobody listens at its internal bind" in caplog.text
    assert replica.served


async def test_where_somebody_else_balances_nobody_is_asked(tmp_path: Path, town: Town) -> None:
    replica = await town.settle("127.0.0.2")
    async with started(tmp_path, town, probe="off") as gateway:
        assert await said(gateway) == "127.0.0.2"
    assert replica.asked == 0


async def test_the_release_of_each_address_is_counted_logged_and_shown(
    town: Town, gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.upstream")
    first = await town.settle("127.0.0.2")
    first.become_ready(b"echo/1.3.0+abc1234")
    assert await said(gateway) == "127.0.0.2"
    assert 'gateway_upstream_addresses{release="echo/1.3.0+abc1234",service="echo"} 1' in await internal(
        gateway, "/metrics"
    )
    assert f"echo at 127.0.0.2:{town.port} runs echo/1.3.0+abc1234" in caplog.text
    page = (await gateway.send(get(b"/", b"Connection: close"))).decode()
    assert "<td>1.3.0+abc1234" in page
    await first.close()
    assert await said(gateway) == "503"
    second = await town.settle("127.0.0.2")
    second.become_ready(b"echo/1.4.0")
    await until(lambda: _is_served(gateway, "127.0.0.2"), 5)
    assert f"echo at 127.0.0.2:{town.port} runs echo/1.4.0, before echo/1.3.0+abc1234" in caplog.text
    metrics = await internal(gateway, "/metrics")
    assert 'release="echo/1.4.0"' in metrics
    assert "1.3.0" not in metrics


async def test_of_a_name_with_very_many_addresses_some_get_nothing_and_none_is_asked(
    town: Town, gateway: GatewayUnderTest
) -> None:
    town.leads_to = [f"127.0.1.{number}" for number in range(1, 101)]
    await said(gateway)
    metrics = await internal(gateway, "/metrics")
    assert 'gateway_upstream_unready{service="echo"} 64' in metrics


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (READY % b"orders/1.3.0+abc1234", Finding(True, "/readyz answered 200", "orders/1.3.0+abc1234")),
        (b"HTTP/1.1 200 OK\r\n\r\n", Finding(True, "/readyz answered 200")),
        (READY % b"<script>", Finding(True, "/readyz answered 200")),
        (READY % (b"a/" + b"1" * 101), Finding(True, "/readyz answered 200")),
        (UNREADY, Finding(False, "/readyz answered 503")),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", Finding(True, "/readyz answered 404")),
        (b"HTTP/1.1 302 Found\r\n\r\n", Finding(False, "/readyz answered 302")),
        (b"HTTP/1.1 500 no\r\n\r\n", Finding(False, "/readyz answered 500")),
        (b"SSH-2.0\r\n\r\n", Finding(False, "/readyz gave no answer that can be read")),
        (b"", Finding(False, "/readyz gave no answer that can be read")),
        (
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000,
            Finding(False, "/readyz gave no answer that can be read"),
        ),
        (None, Finding(False, "/readyz did not answer in time")),
    ],
)
async def test_what_an_address_can_answer(
    response: bytes | None, expected: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if response is None:
            await reader.read()
        else:
            writer.write(response)
        writer.close()
        served.set()

    served = asyncio.Event()

    monkeypatch.setattr(probe, "_RESPONSE_SECONDS", 0.2 if response is None else 5)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = ("127.0.0.1", server.sockets[0].getsockname()[1])
        assert await probe.ask("orders", address, address, 1) == expected
        await served.wait()
        await turns()


async def test_nobody_at_the_internal_bind_is_told_from_nobody_at_all() -> None:
    nobody = ("127.0.0.1", free_port())
    for internal_bind in (nobody, ("a" * 64, 9000)):  # a host that can be no name
        found = await probe.ask("orders", nobody, internal_bind, 1)
        assert found == Finding(False, "nobody listens", listens=False, missing=False)
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) as server:
        found = await probe.ask("orders", ("127.0.0.1", server.sockets[0].getsockname()[1]), nobody, 1)
        await turns()
    assert (found.listens, found.missing) == (True, True)
