"""A real gunicorn under load: reloads, new routes, draining, and counts that add up across workers."""

import asyncio
import os
import signal
import time
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import httpx
import pytest

from tests.process import DEADLINE, ROUTE, Gateway, connected, echo, until
from tests.process import serving as serving_from


def serving(folder: Path, **settings: str) -> AbstractAsyncContextManager[Gateway]:
    return serving_from(folder, echo, **settings)


class Load:
    """A few clients that ask over and over, on kept connections, and go elsewhere when they are asked to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.served = 0
        self.asked_to_go = 0
        self.failed: list[str] = []
        self.ends = (
            False  # the listener will be closed: a connection that was never answered is as good as refused
        )
        self._over = False
        self._tasks = [asyncio.create_task(self._client()) for _ in range(8)]

    async def stop(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self._over:
            responded = False
            try:
                async with connected(self._port) as (reader, writer):
                    while not self._over and await self._ask(reader, writer):
                        responded = True
            except (OSError, asyncio.IncompleteReadError) as error:
                if self.ends and not responded and isinstance(error, ConnectionError):
                    return
                self.failed.append(repr(error))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        if not head.startswith(b"HTTP/1.1 200"):
            self.failed.append(head.decode())
        self.served += 1
        close = b"connection: close" in head.lower()
        self.asked_to_go += close
        return not close


@pytest.mark.parametrize("requests", [500, pytest.param(10_000, marks=pytest.mark.endurance)])
async def test_a_hup_under_load_swaps_the_workers_and_fails_no_request(tmp_path: Path, requests: int) -> None:
    async with serving(tmp_path) as gateway:
        load = Load(gateway.port)
        while load.served < requests:
            old = gateway.workers()
            await until(lambda at=load.served: load.served > at + 50)
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda old=old: not old & gateway.workers())
            await until(lambda at=load.served: load.served > at + 50)
        await load.stop()
        assert load.failed == []
        assert load.asked_to_go


async def test_a_stop_under_load_turns_not_ready_finishes_and_exits_in_time(tmp_path: Path) -> None:
    async with serving(tmp_path, DRAIN_SECONDS="1") as gateway:
        load = Load(gateway.port)
        await until(lambda: load.served > 50)
        began = time.monotonic()
        load.ends = True
        gateway.process.send_signal(signal.SIGTERM)

        async def is_draining() -> bool:
            return "draining" in await gateway.internal("/readyz")

        await until(is_draining)
        assert await gateway.process.wait() == 0
        assert time.monotonic() - began < 10
        await load.stop()
        assert load.failed == []
        assert load.asked_to_go


async def test_a_service_with_bad_routes_keeps_its_own_and_others_change_under_load(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        worker = gateway.workers()
        load = Load(gateway.port)
        gateway.write_routes("/a", "/b")
        await until(lambda: _serves(gateway, "/b"))
        said = gateway.log.read_text().count("new workers begin with")
        gateway.publish("other", ROUTE.format(name="c", path="/c"))
        await until(lambda: gateway.log.read_text().count("new workers begin with") > said)
        gateway.routes.write_text("[[routes]]\nname = 7")
        await until(lambda: gateway.logged("the routes of echo cannot be used, those in use stay"))
        assert gateway.logged("echo.toml:2: name")
        assert await gateway.metric('gateway_routes_refused{overlaps="",service="echo"}') == 1
        await until(lambda: _is(gateway, "/c", 503))  # nobody is at its address
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: not worker & gateway.workers())
        assert [await gateway.status(path) for path in ("/a", "/b", "/c")] == [200, 200, 503]
        gateway.publish("third", ROUTE.format(name="d", path="/d"))
        await until(lambda: _is(gateway, "/d", 503))
        gateway.withdraw("other")
        await until(lambda: _is(gateway, "/c", 404))
        gateway.write_routes("/a")
        await until(lambda: _is(gateway, "/b", 404))
        await load.stop()
        assert load.failed == []
        assert await gateway.metric("gateway_routes_refused") == 0


async def test_a_gateway_that_knows_no_keys_and_no_revocations_is_alive_but_not_ready(tmp_path: Path) -> None:
    """Neither can be asked in these tests; public routes live all the same."""
    async with serving(tmp_path) as gateway, httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        internal = f"http://127.0.0.1:{gateway.internal_port}"
        assert (await client.get(f"{internal}/healthz")).status_code == 200
        ready = await client.get(f"{internal}/readyz")
        assert ready.status_code == 503
        assert "identity" in ready.text
        assert await gateway.status("/a") == 200


async def test_the_internal_bind_reads_no_head_without_end(tmp_path: Path) -> None:
    """Every service beside the gateway reaches it."""
    async with serving(tmp_path) as gateway, connected(gateway.internal_port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"alive")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 1_000_000)
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                assert await reader.read() == b""


async def test_counts_of_all_workers_add_up_and_outlive_a_worker(tmp_path: Path) -> None:
    async with serving(tmp_path, WORKERS="2") as gateway:
        await until(lambda: len(gateway.workers()) == 2)

        async def counted() -> bool:
            seen = await gateway.metric("gateway_request_duration_seconds_count")
            print(f"{seen:g} counted of {gateway.responded}")
            return seen == gateway.responded

        for _ in range(40):
            assert await gateway.status("/a") == 200
        await until(counted)
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: not old & gateway.workers())
        await until(counted)
        assert await gateway.metric("gateway_connections") == 0


async def test_at_the_first_start_bad_routes_take_out_their_own_service_alone(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 1)
    gateway.routes.write_text("[[routes]]")
    gateway.publish("copy", ROUTE.format(name="copied", path="/other"))
    gateway.publish("other", ROUTE.format(name="other", path="/other"), since="2026-11-30T12:00:00.000001Z")
    await gateway.start()
    await until(lambda: _is(gateway, "/other", 503))  # nobody is at its address
    assert gateway.logged("the routes of echo cannot be used, it has none")
    assert gateway.logged("echo.toml:1: name: Field required")
    assert await gateway.metric('gateway_routes_refused{overlaps="other",service="copy"}') == 1
    assert await gateway.metric("gateway_routes_refused") == 2
    assert "routes" not in await gateway.internal("/readyz")
    await gateway.stop()


async def test_without_any_route_a_gateway_starts_and_is_not_ready_until_there_is_one(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 1)
    gateway.withdraw("echo")
    await gateway.start()
    await until(lambda: _is(gateway, "/a", 404))
    assert "no service has published routes that can be used" in await gateway.internal("/readyz")
    gateway.publish("echo", ROUTE.format(name="a", path="/a"))
    await until(lambda: _is(gateway, "/a", 503))
    assert "no service has published" not in await gateway.internal("/readyz")
    await gateway.stop()


async def test_a_worker_that_dies_while_the_routes_cannot_be_used_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        dead = gateway.worker()
        gateway.write_routes("/a", "/b")
        await until(lambda: _serves(gateway, "/b"))
        os.kill(dead, signal.SIGKILL)
        await until(lambda: _serves(gateway, "/b"))
        dead = gateway.worker()
        gateway.write_table("[[routes]]")
        await until(lambda: gateway.logged("those in use stay"))
        os.kill(dead, signal.SIGKILL)
        await until(lambda: gateway.process.returncode is not None or str(dead) not in gateway.workers())
        await until(lambda: _serves(gateway, "/b"))
        assert await gateway.metric("gateway_routes_refused") == 1


async def _is(gateway: Gateway, path: str, status: int) -> bool:
    assert gateway.process.returncode is None, gateway.log.read_text()
    return await gateway.status(path) == status


async def _serves(gateway: Gateway, path: str) -> bool:
    assert gateway.process.returncode is None, gateway.log.read_text()
    return await gateway.status(path) == 200
