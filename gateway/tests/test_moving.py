"""A service that moves, as upstreams.toml tells: no restart, and no request that was under way is lost."""

import asyncio
import re
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RouteSettings
from gateway.routing.endpoints import Endpoints, parse, parse_address
from gateway.routing.route_table import read_table
from gateway.server import worker_state
from tests.conftest import GatewayUnderTest, Upstream, internal, running
from tests.process import ROUTE, until
from tests.wire import get


def publish(folder: Path, service: str, upstreams: str) -> None:
    (folder / service).mkdir(exist_ok=True)
    (folder / service / "routes.toml").write_text(ROUTE.format(name=service, path=f"/{service}"))
    (folder / service / "upstreams.toml").write_text(upstreams)


def settings(folder: Path, **more: Any) -> RouteSettings:
    return RouteSettings(routes_dir=folder, **more)


def test_a_service_is_where_its_file_says_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    publish(
        tmp_path,
        "orders",
        'stable = ["10.0.0.7:81", "[fd00::7]:82"]\ninternal = ["10.0.0.7:91", "[fd00::7]:92"]',
    )
    published = read_table(tmp_path).endpoints["orders"]
    assert published == Endpoints(
        (("10.0.0.7", 81), ("fd00::7", 82)),
        (("10.0.0.7", 91), ("fd00::7", 92)),
    )
    said = settings(tmp_path).endpoints_of("orders", published)
    assert said == published
    said = settings(tmp_path, upstreams={"orders": "10.0.0.8"}).endpoints_of("orders", published)
    assert said == ((("10.0.0.8", 8000),), (("10.0.0.8", 9000),))
    said = settings(tmp_path, upstream_internal={"orders": "10.0.0.8"}).endpoints_of("orders", published)
    assert said == (published.public, (("10.0.0.8", 9000),))


@pytest.mark.parametrize(
    "text", [None, "", "stable = []", 'stable = ["orders"]', 'internal = ["orders:9000"]']
)
def test_without_a_word_a_service_is_at_the_host_of_its_name(tmp_path: Path, text: str | None) -> None:
    publish(tmp_path, "orders", text or "")
    if text is None:
        (tmp_path / "orders" / "upstreams.toml").unlink()
    assert read_table(tmp_path).endpoints["orders"] == ((("orders", 8000),), (("orders", 9000),))
    assert settings(tmp_path).endpoints_of("unpublished") == (
        (("unpublished", 8000),),
        (("unpublished", 9000),),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stable = [", "Unclosed array|Invalid value|array"),
        ('stable = "orders:8000"', "stable: "),
        ('stable = ["orders:0"]', "'orders:0' is not host:port"),
        ('stable = ["orders:65536"]', "is not host:port"),
        ('stable = ["http://orders:8000"]', "is not host:port"),
        ('stable = ["fd00::7"]', "is not host:port"),
        ('stable = ["[orders]:8000"]', "is not host:port"),
        ('stable = ["a", "b"]\ninternal = ["a"]', "internal lists one address for each of stable"),
        ('stabel = ["a"]', "stabel: "),
        ("stable = [" + '"a",' * 65 + "]", "stable: "),
    ],
)
def test_addresses_that_cannot_be_read_are_a_fault_of_their_service(
    tmp_path: Path, text: str, reason: str
) -> None:
    publish(tmp_path, "orders", text)
    publish(tmp_path, "stock", "")
    table = read_table(tmp_path)
    assert list(table.used) == ["stock"]
    said = table.refused["orders"].reason
    assert said.startswith(f"{tmp_path}/orders/upstreams.toml: ")
    assert re.search(reason, said)


def test_routes_and_addresses_are_kept_each_for_itself(tmp_path: Path) -> None:
    publish(tmp_path, "orders", 'stable = ["a"]')
    table = read_table(tmp_path)
    (tmp_path / "orders" / "routes.toml").write_text("routes = 7")
    (tmp_path / "orders" / "upstreams.toml").write_text('stable = ["b"]')
    table = read_table(tmp_path, last=table)
    assert list(table.used) == list(table.refused) == ["orders"]
    assert table.endpoints["orders"].public == (("b", 8000),)
    (tmp_path / "orders" / "upstreams.toml").write_text('stable = ["b')
    table = read_table(tmp_path, last=table)
    assert table.endpoints["orders"].public == (("b", 8000),)


@pytest.mark.parametrize("text", ["", ",", "a:x", "a b:1:2", "::1", "[::1", "a" * 254, ",".join(["a"] * 65)])
def test_what_is_no_address_is_refused_in_the_settings_too(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not host:port|more than 64"):
        parse(text, 8000)


def test_an_address_may_leave_its_port_to_the_default() -> None:
    assert [parse_address(text, 8000) for text in ("a", "a_b.c:1", "[::1]", "[::1]:2", "10.0.0.1:3")] == [
        ("a", 8000),
        ("a_b.c", 1),
        ("::1", 8000),
        ("::1", 2),
        ("10.0.0.1", 3),
    ]


def test_each_replica_is_asked_at_its_own_internal_bind() -> None:
    one = Endpoints.of([("orders", 8000)])
    assert one.internal_of(0, "10.0.0.7") == ("10.0.0.7", 9000)
    ports = Endpoints.of([("127.0.0.1", 81), ("127.0.0.1", 82)], [("127.0.0.1", 91), ("127.0.0.1", 92)])
    assert [ports.internal_of(index, "127.0.0.1") for index in range(2)] == [
        ("127.0.0.1", 91),
        ("127.0.0.1", 92),
    ]
    elsewhere = Endpoints.of([("orders", 8000)], [("orders-internal", 9000)])
    assert elsewhere.internal_of(0, "10.0.0.7") == ("orders-internal", 9000)


class Service(Upstream):
    """Answers with its name, a little at a time."""

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.response = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(name), name]


async def test_a_service_moves_under_load_without_a_failed_request_and_the_old_address_is_drained(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        ports = []
        services = [Service(b"old"), Service(b"new")]
        for service in services:
            server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            ports.append(server.sockets[0].getsockname()[1])
        publish(tmp_path, "moving", f'stable = ["127.0.0.1:{ports[0]}"]')
        gateway = await stack.enter_async_context(running(tmp_path, routes_watch_seconds=0.05))
        responses: list[bytes] = []
        moved = asyncio.Event()

        async def ask() -> None:
            while not moved.is_set():
                responses.append((await gateway.send(get(b"/moving", b"Connection: close")))[-3:])

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        await until(lambda: responses.count(b"old") > 20, 10)
        publish(tmp_path, "moving", f'stable = ["127.0.0.1:{ports[1]}"]')
        await until(lambda: responses.count(b"new") > 20, 10)
        moved.set()
        await asyncio.gather(*clients)
        assert {*responses} == {b"old", b"new"}
        last = len(responses) - responses[::-1].index(b"old")
        assert (
            b"new" not in responses[: last - 4]
        )  # what was under way, and nothing else, ended at the old address


async def test_what_waits_for_a_connection_to_an_address_that_is_given_up_is_sent_to_the_new_one(
    tmp_path: Path,
) -> None:
    new = Service(b"new")
    # Its backlog is full: a further SYN is dropped, and not even refused.
    deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
    filling = [socket.socket() for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(deaf.getsockname())
    async with await asyncio.start_server(new.serve, "127.0.0.1", 0) as server:
        publish(tmp_path, "moving", f'stable = ["127.0.0.1:{deaf.getsockname()[1]}"]')
        async with running(tmp_path, routes_watch_seconds=0.05, connect_seconds=60.0) as gateway:
            asking = asyncio.create_task(gateway.send(get(b"/moving", b"Connection: close")))
            await until(lambda: _waits(gateway, "moving"), 10)
            publish(tmp_path, "moving", f'stable = ["127.0.0.1:{server.sockets[0].getsockname()[1]}"]')
            assert (await asking).endswith(b"new")
    for one in (deaf, *filling):
        one.close()


async def test_a_service_that_has_left_is_forgotten_when_nothing_of_it_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_state, "_FORGOTTEN_SECONDS", 0.2)
    publish(tmp_path, "leaving", 'stable = ["127.0.0.1:1"]')
    async with running(tmp_path, routes_watch_seconds=0.05) as gateway:
        await until(lambda: _counts(gateway, "leaving"), 10)
        (tmp_path / "leaving" / "routes.toml").unlink()
        await until(lambda: _counts_not(gateway, "leaving"), 10)
        assert await _counts(gateway, "echo")


async def _waits(gateway: GatewayUnderTest, service: str) -> bool:
    return f'gateway_upstream_waiting{{service="{service}"}} 1' in await internal(gateway, "/metrics")


async def _counts(gateway: GatewayUnderTest, service: str) -> bool:
    return f'gateway_upstream_limit{{service="{service}"}}' in await internal(gateway, "/metrics")


async def _counts_not(gateway: GatewayUnderTest, service: str) -> bool:
    return not await _counts(gateway, service)


async def test_services_that_come_and_go_leave_the_connections_and_limits_of_others_as_they_are(
    tmp_path: Path,
) -> None:
    limited = (
        ROUTE.format(name="echo.few", path="/few")
        + 'limit = { rate = 2, per_seconds = 600, by = "address" }\n'
    )
    async with running(tmp_path, table=limited, routes_watch_seconds=0.05) as gateway:
        assert (await gateway.send(get(b"/few"))).startswith(b"HTTP/1.1 200 ")
        for upstreams in ('stable = ["127.0.0.1:1"]', 'stable = ["127.0.0.1:2"]'):
            publish(tmp_path, "other", upstreams)
            await until(lambda: _counts(gateway, "other"), 10)
        (tmp_path / "other" / "routes.toml").write_text("routes = 7")
        await until(lambda: _is_refused(gateway, "other"), 10)
        metrics = await internal(gateway, "/metrics")
        assert 'gateway_upstream_connections{service="echo",state="idle"} 1' in metrics
        assert (await gateway.send(get(b"/few"))).startswith(b"HTTP/1.1 200 ")
        assert (await gateway.send(get(b"/few"))).startswith(b"HTTP/1.1 429 ")
        assert len(gateway.upstream.got) == 2


async def _is_refused(gateway: GatewayUnderTest, service: str) -> bool:
    return f'gateway_routes_refused{{overlaps="",service="{service}"}} 1' in await internal(
        gateway, "/metrics"
    )
