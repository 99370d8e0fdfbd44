"""A service that moves: its name is asked for again, and nothing reaches whoever has its old address now."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.portal.services import fetch_json
from gateway.routing.endpoints import Endpoints
from gateway.upstream import probe
from gateway.upstream.resolver import AGAIN_SECONDS, Resolver
from service_kit import background
from tests.conftest import GatewayUnderTest, running, turns
from tests.process import until
from tests.wire import get

NAME = "service.test"


class Town:
    """Hosts at addresses of the loopback network, one port for all of them, and where the name leads at present."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.leads_to: list[str] = []
        self._hosts: dict[str, Host] = {}

    async def settle(self, address: str, says: bytes) -> "Host":
        host = self._hosts[address] = Host(says)
        await host.open(address, self.port)
        return host

    async def leave(self) -> None:
        for host in self._hosts.values():
            await host.close()

    def resolve(self, host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        """Stands in for the resolver of the system, which no test can make forget."""
        addresses = self.leads_to if host == NAME else [host]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


class Host:
    """A server that answers with its word, and counts whom it served and who is connected."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.served = 0
        self.connected = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connected += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.served += 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self._says), self._says)
                )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connected -= 1
            writer.close()

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await turns()


@pytest.fixture(name="town")
async def _town(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        town = Town(probe.getsockname()[1])
    monkeypatch.setattr(socket, "getaddrinfo", town.resolve)
    yield town
    await town.leave()


@pytest.fixture(name="gateway")
async def _house(tmp_path: Path, town: Town) -> AsyncIterator[GatewayUnderTest]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(tmp_path, upstreams={"echo": f"{NAME}:{town.port}"}))


@pytest.fixture(name="old")
async def _old(town: Town, gateway: GatewayUnderTest) -> Host:
    """The service where the name led first, and a connection to it that is kept."""
    old = await town.settle("127.0.0.2", b"old")
    town.leads_to = ["127.0.0.2"]
    assert await said(gateway) == b"old"
    return old


async def said(gateway: GatewayUnderTest) -> bytes:
    response = await gateway.send(get(b"/public/a", b"Connection: close"))
    return response.partition(b"\r\n\r\n")[2] if response.startswith(b"HTTP/1.1 200 ") else response[9:12]


async def test_nothing_reaches_a_stranger_at_the_old_address_of_a_service_that_was_made_anew(
    town: Town, gateway: GatewayUnderTest, old: Host
) -> None:
    await old.close()
    stranger = await town.settle("127.0.0.2", b"stranger")
    await town.settle("127.0.0.3", b"new")
    town.leads_to = ["127.0.0.3"]
    assert [await said(gateway) for _ in range(20)] == [b"new"] * 20
    assert stranger.served == 0


async def test_while_the_name_still_leads_nowhere_the_stranger_gets_nothing_either(
    town: Town, gateway: GatewayUnderTest, old: Host
) -> None:
    await old.close()
    stranger = await town.settle("127.0.0.2", b"stranger")
    town.leads_to = []
    assert {await said(gateway) for _ in range(3)} == {b"503"}
    assert stranger.served == 0
    await town.settle("127.0.0.3", b"new")
    town.leads_to = ["127.0.0.3"]
    assert await _soon(gateway) == b"new"
    assert stranger.served == 0


async def test_a_connection_to_an_address_that_is_no_longer_the_services_is_given_up_though_it_works(
    town: Town, gateway: GatewayUnderTest, old: Host
) -> None:
    assert old.connected == 1
    await town.settle("127.0.0.3", b"new")
    town.leads_to = ["127.0.0.3"]
    async with asyncio.timeout(5):  # the promise; the name is asked for every AGAIN_SECONDS
        while old.connected:
            await asyncio.sleep(0.05)
    assert AGAIN_SECONDS <= 2.5
    served = old.served
    assert [await said(gateway) for _ in range(5)] == [b"new"] * 5
    assert old.served == served


async def test_the_name_is_asked_for_again_though_asking_failed_in_a_way_that_nobody_foresaw(
    town: Town, gateway: GatewayUnderTest, old: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def broken(*_: Any, **__: Any) -> list[Any]:
        failed.set()
        raise RuntimeError("not an error of a resolver")

    monkeypatch.setattr(background, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", broken)
    await asyncio.wait_for(failed.wait(), 5)
    monkeypatch.setattr(socket, "getaddrinfo", town.resolve)
    town.leads_to = ["127.0.0.3"]
    await until(lambda: not old.connected, 5)


async def test_a_new_replica_gets_its_share_without_a_failure(town: Town, gateway: GatewayUnderTest) -> None:
    first = await town.settle("127.0.0.2", b"first")
    town.leads_to = ["127.0.0.2"]
    assert await said(gateway) == b"first"
    second = await town.settle("127.0.0.3", b"second")
    town.leads_to = ["127.0.0.2", "127.0.0.3"]
    async with asyncio.timeout(5):
        while not second.served:
            responses = await asyncio.gather(*(said(gateway) for _ in range(4)))
            assert {*responses} <= {b"first", b"second"}
    assert first.served


async def test_a_gateway_starts_before_its_service_and_finds_it_when_it_comes(
    town: Town, gateway: GatewayUnderTest
) -> None:
    assert await said(gateway) == b"503"
    await town.settle("127.0.0.2", b"here")
    town.leads_to = ["127.0.0.2"]
    assert await _soon(gateway) == b"here"


async def _soon(gateway: GatewayUnderTest) -> bytes:
    """The first answer that is no 503, which has to come within the promised five seconds."""
    ends = time.monotonic() + 5
    while (response := await said(gateway)) == b"503":
        assert time.monotonic() < ends
        await asyncio.sleep(0.05)
    return response


async def test_a_host_that_can_be_no_name_leads_nowhere() -> None:
    assert await Resolver(Endpoints.of([("a" * 64, 8000), ("127.0.0.1", 1)])).resolve() == {
        ("127.0.0.1", 1): ("127.0.0.1", 9000)
    }


async def test_hosts_that_the_name_service_does_not_answer_for_hold_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    responded = threading.Event()
    asked: Counter[str] = Counter()

    def resolve(host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        asked[host] += 1
        if host.startswith("silent"):
            assert responded.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    silent = [Resolver(Endpoints.of([(f"silent-{number}.test", 8000)])) for number in range(40)]
    silent += [Resolver(Endpoints.of([(f"silent-{number}.test", 8000) for number in range(100, 164)]))]
    waiting = [asyncio.create_task(names.resolve()) for names in silent]
    given_up = asyncio.create_task(fetch_json("one", [("silent-0.test", 9000)], "/readyz", 0.1, 1000))
    try:
        async with asyncio.timeout(30):
            assert await given_up == ({}, "it did not answer in time")
            assert await Resolver(Endpoints.of([("service.test", 8000)])).resolve() == {
                ("127.0.0.9", 8000): ("127.0.0.9", 9000)
            }
        assert not any(one.done() for one in waiting)
        assert len(asked) == 40 + 4 + 1, "of the many hosts of one service a few are asked for at a time"
    finally:
        responded.set()
    assert [list(one) for one in await asyncio.gather(*waiting)] == [[("127.0.0.9", 8000)]] * 41
    assert set(asked.values()) == {1}, "each is asked for once at a time, whoever asks"


async def test_a_service_has_few_hosts_asked_for_by_whoever_looks_whether_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two teams with 64 internal hosts each, none of which the name service answered for, had every thread there is."""
    responded = threading.Event()
    asked: Counter[str] = Counter()

    def resolve(host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        asked[host.partition("-")[0]] += 1
        if host != "service.test":
            assert responded.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    asking = [
        asyncio.create_task(probe.ask(team, ("127.0.0.1", 1), (f"{team}-{number}.test", 9000), 0.2))
        for team in ("one", "two")
        for number in range(64)
    ]
    try:
        async with asyncio.timeout(30):
            assert not any(found.ready for found in await asyncio.gather(*asking))
            assert await Resolver(Endpoints.of([("service.test", 8000)])).resolve() == {
                ("127.0.0.9", 8000): ("127.0.0.9", 9000)
            }
        assert asked == {"one": 4, "two": 4, "service.test": 1}
    finally:
        responded.set()


async def test_a_host_is_asked_for_again_though_there_was_no_thread_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = Resolver(Endpoints.of([("localhost", 8000)]))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert await names.resolve() == {}
    assert ("127.0.0.1", 8000) in await names.resolve()
