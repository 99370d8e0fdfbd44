"""A service that gets more than it can do: who is admitted waits for a bounded time, the others hear of it at once."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.upstream.concurrency import RULE, AdaptiveConcurrency
from tests.process import ROUTE, Gateway, connected, reset, serving, until


def test_a_crowd_is_admitted_as_long_as_its_answers_take_what_they_usually_take() -> None:
    concurrency = AdaptiveConcurrency(4096)
    concurrency.waiting = 2000
    for tick in range(10):
        for _ in range(200):
            concurrency.responded("report", 1.0, 5.0)
        concurrency.sweep(tick * 0.2)
    assert concurrency.limit == 4096


def test_fewer_are_admitted_while_most_are_slow_and_all_again_afterwards() -> None:
    concurrency, now = AdaptiveConcurrency(4096), 0.0
    calm(concurrency, 0.01)
    for _ in range(30):
        now += 0.2
        concurrency.waiting = 500
        for _ in range(20):
            concurrency.responded("things", 1.0, 5.0)
        concurrency.sweep(now)
    assert concurrency.limit == RULE.minimum, "so many may wait whatever happens"
    for _ in range(100):
        now += 0.2
        concurrency.sweep(now)
    assert concurrency.limit == 4096


def test_one_slow_route_does_not_shut_out_the_others() -> None:
    concurrency = AdaptiveConcurrency(4096)
    calm(concurrency, 0.01)
    concurrency.waiting = 500
    for tick in range(20):
        for _ in range(20):
            concurrency.responded("report", 4.0, 5.0)  # as the first of them did: it is that kind of a route
        for _ in range(20):
            concurrency.responded("things", 0.012, 5.0)
        concurrency.sweep(tick * 0.2)
    assert concurrency.limit == 4096


def test_a_crowd_that_came_during_a_pause_is_served_and_nobody_else_refused() -> None:
    """230 requests a second to a service that can do 500, which stops for 1.2 s and goes on."""
    concurrency, sent = AdaptiveConcurrency(4096), deque[float]()
    calm(concurrency, 0.01)
    for millisecond in range(6000):
        now = millisecond / 1000
        if millisecond % 100 < 23:
            sent.append(now)
            concurrency.waiting += 1
            assert concurrency.waiting <= concurrency.limit
        if millisecond % 2 and not 1 <= now < 2.2 and sent:
            concurrency.responded("things", now - sent.popleft(), 5.0)
        concurrency.sweep(now)
    assert concurrency.limit == 4096
    assert len(sent) < RULE.minimum


def calm(concurrency: AdaptiveConcurrency, seconds: float) -> None:
    for _ in range(100):
        concurrency.waiting += 1
        concurrency.responded("things", seconds, 5.0)


DEADLINE = 2.5  # seconds that the route gives the service; without a limit nearly all would reach it


class Busy:
    """A service with five hands, which can do 100 requests a second: whatever comes waits for a free one and is done,
    whether anybody still wants it or not."""

    def __init__(self, seconds: float = 0.05) -> None:
        self._hands = asyncio.Semaphore(5)
        self._seconds = seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                async with self._hands:
                    await asyncio.sleep(self._seconds)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def offer(gateway: Gateway, per_second: float, requests: int) -> list[tuple[float, float, bytes]]:
    """Sends at a fixed rate, whatever comes back: when each was sent, how long it took, and its answer."""
    results: list[tuple[float, float, bytes]] = []

    async def one() -> None:
        began = time.perf_counter()
        async with connected(gateway.port) as (reader, writer):
            writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            response = await reader.read()
        results.append((began - started, time.perf_counter() - began, response))

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(requests):
            await asyncio.sleep(max(0.0, started + number / per_second - time.perf_counter()))
            tasks.create_task(one())
    return results


def p99(durations: list[float]) -> float:
    return sorted(durations)[math.ceil(len(durations) * 0.99) - 1]


@asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[Gateway]:
    table = ROUTE.format(name="a", path="/a") + f"first_byte_seconds = {DEADLINE}\n"
    async with serving(folder, Busy().serve, table, ACCESS_LOG_SHARE="0") as gateway:
        yield gateway


@pytest.mark.quiet
@pytest.mark.parametrize("seconds", [4, pytest.param(15, marks=pytest.mark.endurance)])
async def test_at_three_times_what_a_service_can_do_the_admitted_are_served_in_bounded_time(
    tmp_path: Path, seconds: int
) -> None:
    async with busy(tmp_path) as gateway:
        capacity, below = await offer_less(gateway)
        assert {response[9:12] for _, _, response in below} == {b"200"}
        usual = p99([took for _, took, _ in below])
        above = await offer(gateway, 3 * capacity, int(3 * capacity * seconds))
        served = [(sent, took) for sent, took, response in above if response[9:12] == b"200"]
        onset = p99([took for _, took in served])  # what had been admitted before the crowd was noticed
        after = p99([took for sent, took in served if sent > seconds / 2])
        refused = [(took, response) for _, took, response in above if response[9:12] != b"200"]
        print(f"{capacity:.0f} a second; p99 {usual:.3f} s at 0.7x; at 3x {onset:.3f} s, then {after:.3f} s")
        assert all(response.startswith(b"HTTP/1.1 503 ") for _, response in refused), "nobody times out"
        assert all(
            b'"code":"overloaded"' in response and b"\r\nRetry-After: " in response for _, response in refused
        )
        assert p99([took for took, _ in refused]) < after / 2, "who is refused hears it at once"
        # What it can do in these very seconds: other work may have come to the machine.
        at_present = min(capacity, sum(sent > seconds / 2 for sent, _ in served) / (seconds / 2))
        assert after < 5 * usual + 2 * RULE.minimum / at_present, (
            "as many as always may wait, one after the other"
        )
        assert len(served) > 0.5 * capacity * seconds, "nobody is refused while hands are free"
        await asyncio.sleep(0.5)
        _, again = await offer_less(gateway)
        assert {response[9:12] for _, _, response in again} == {b"200"}


async def offer_less(gateway: Gateway) -> tuple[float, list[tuple[float, float, bytes]]]:
    """What the service can do, and what comes of 0.7 of it for three seconds, in which it could go on doing that: other
    work may come to the machine."""
    for _ in range(5):
        capacity = await measure(gateway.upstream_port)
        results = await offer(gateway, 0.7 * capacity, int(2 * capacity))
        if await measure(gateway.upstream_port) > 0.8 * capacity:
            break
    return capacity, results


async def measure(port: int) -> float:
    """How many requests a second the service can do on this machine now."""
    ends = time.perf_counter() + 1.5

    async def client() -> int:
        done = 0
        async with connected(port) as (reader, writer):
            while time.perf_counter() < ends:
                writer.write(b"GET /a HTTP/1.1\r\n\r\n")
                await reader.readuntil(b"ok")
                done += 1
        return done

    return sum(await asyncio.gather(*(client() for _ in range(10)))) / 1.5


@pytest.mark.quiet
@pytest.mark.parametrize("clients", [300, pytest.param(1000, marks=pytest.mark.endurance)])
async def test_a_crowd_of_clients_that_are_gone_has_nobody_refused_a_second_later(
    tmp_path: Path, clients: int
) -> None:
    """They hang up behind a proxy that makes of their resets the end of one half, and itself waits for the answers; the
    service needs two seconds for all of them."""
    service = Busy(10 / clients)
    async with serving(tmp_path, service.serve, ROUTE.format(name="a", path="/a")) as gateway:
        assert {response[9:12] for _, _, response in await offer(gateway, 30, 30)} == {b"200"}
        all_at_once = asyncio.Barrier(clients + 1)
        async with asyncio.TaskGroup() as tasks:
            others = tasks.create_task(offer(gateway, 30, 90))
            for _ in range(clients):
                tasks.create_task(abort(gateway, all_at_once))
            await all_at_once.wait()
            await asyncio.sleep(1)
            asked = [await offer(gateway, math.inf, 10) for _ in range(10)]
    assert [response[9:12] for ten in asked for _, _, response in ten] == [b"200"] * 100
    assert {response[9:12] for _, _, response in others.result()} == {b"200"}


async def abort(gateway: Gateway, all_at_once: asyncio.Barrier) -> None:
    async with connected(gateway.port) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await all_at_once.wait()
        writer.write_eof()
        await reader.read()


@pytest.mark.quiet
async def test_clients_that_ask_and_leave_pile_up_nowhere(tmp_path: Path) -> None:
    """At three times what the service can do, which hears of nobody's leaving until it has answered."""
    async with busy(tmp_path) as gateway:
        assert {response[9:12] for _, _, response in await offer(gateway, 30, 30)} == {b"200"}
        async with asyncio.TaskGroup() as tasks:
            for number in range(900):
                tasks.create_task(leave(gateway))
                if number % 3 == 2:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        responses = [response for _ in range(10) for _, _, response in await offer(gateway, math.inf, 10)]
        assert [response[9:12] for response in responses] == [b"200"] * 100
        await until(lambda: nobody_counts(gateway))


async def leave(gateway: Gateway) -> None:
    async with connected(gateway.port) as (_, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.02)
        reset(writer)


async def nobody_counts(gateway: Gateway) -> bool:
    return await gateway.metric("gateway_upstream_outstanding") == 0


def test_a_service_that_notices_nobodys_leaving_is_not_filled_with_those_who_left() -> None:
    concurrency = AdaptiveConcurrency(4096)
    concurrency.waiting = 4000
    assert sum(concurrency.keep(counted=True) for _ in range(4000)) == 1024
    for _ in range(1024):
        concurrency.noticed("things", 4.0, 5.0)
    assert concurrency.waiting == 4000 - 1024
    assert concurrency.keep(counted=False)
    assert concurrency.waiting == 4000 - 1024 + 1


def test_a_service_that_answers_few_is_judged_by_more_than_one_period() -> None:
    """Forty clients a second leave, and it notices each half a second later than the one before."""
    concurrency, now = AdaptiveConcurrency(4096), 0.0
    concurrency.noticed("things", 0.001, 5.0)
    for period in range(1, 20):
        concurrency.waiting = 100 * period
        for _ in range(3):
            concurrency.keep(counted=True)
            concurrency.noticed("things", period / 2, 5.0)
        now += 0.1
        concurrency.sweep(now)
    assert concurrency.limit < 1000
