"""What is admitted, by one worker and by several that share a Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline as RedisPipeline

from gateway.http1 import request_head
from gateway.pipeline import Pipeline
from gateway.policy.authentication import Callers
from gateway.policy.rate_limits import (
    FAILED_VERIFICATION,
    Addresses,
    AddressLimited,
    Limits,
    RouteLimited,
)
from gateway.rate_limit.leases import (
    SECOND,
    SYNC_SECONDS,
    Claim,
    LimitLease,
    LimitLeases,
    Nowhere,
    microseconds,
)
from gateway.rate_limit.per_address import PerAddress, network_of
from gateway.rate_limit.redis_store import RedisLimitStore, connect
from gateway.routing.routes import Limit, Route, Routes
from service_kit import background, gcra
from service_kit.addresses import ClientAddress
from service_kit.problems import Problem
from service_kit.testing import RedisServer, redis_server
from tests.conftest import running
from tests.process import ROUTE, connected, echo, serving, until
from tests.wire import get


@pytest.fixture(name="store")
def _store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(name="pair")
async def _pair(store: RedisServer) -> AsyncIterator[tuple[LimitLeases, LimitLeases]]:
    """Two workers, whether of one gateway or of two, that share a Redis."""
    one, other = (LimitLeases(RedisLimitStore(connect(store.url, "default", None)), 2) for _ in range(2))
    yield one, other
    await one.close()
    await other.close()


async def load(
    leases: LimitLeases, key: str, limit: Limit, per_second: float, seconds: float
) -> tuple[int, float]:
    """Sends that many requests a second; how many were admitted, and in which time."""
    started, sent, admitted = time.monotonic(), 0, 0
    while (elapsed := time.monotonic() - started) < seconds:
        while sent < elapsed * per_second:
            sent += 1
            admitted += leases.of(key, limit).spend(microseconds(), leases.workers)
        await asyncio.sleep(0.01)
    return admitted, time.monotonic() - started


@pytest.mark.quiet
async def test_a_limit_holds_over_all_workers_within_a_tenth_over_ten_seconds(store: RedisServer) -> None:
    # Patient ones: a store that a busy machine keeps from answering for 0.2 s is away to a worker, which then goes alone.
    one, other = (
        LimitLeases(RedisLimitStore(Redis.from_url(store.url, decode_responses=True)), 2) for _ in range(2)
    )
    running = [asyncio.create_task(leases.run()) for leases in (one, other)]
    both = Limit(rate=100, per_seconds=10, burst=10)
    uneven = Limit(rate=400, per_seconds=10, burst=40)
    below = Limit(rate=200, per_seconds=10, burst=100)
    (a, seconds), (b, _), (c, _), (d, _), (e, _), (f, _) = await asyncio.gather(
        load(one, "both", both, 30, 10),
        load(other, "both", both, 30, 10),
        load(one, "uneven", uneven, 100, 10),
        load(other, "uneven", uneven, 3, 10),
        load(one, "below", below, 8, 10),
        load(other, "below", below, 8, 10),
    )
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert a + b == pytest.approx(10 + 100 * seconds / 10, rel=0.1)
    assert c + d == pytest.approx(40 + 400 * seconds / 10, rel=0.1)
    assert e + f == 160, "who stays below the limit is never refused"


async def test_until_the_first_answer_a_worker_admits_its_share_of_the_burst() -> None:
    leases, limit = LimitLeases(Nowhere(), workers=4), Limit(rate=100, per_seconds=100, burst=40)
    now = microseconds()
    assert sum(leases.of("k", limit).spend(now, leases.workers) for _ in range(100)) == 10


@given(
    st.builds(
        Limit,
        rate=st.integers(1, 5000),
        per_seconds=st.sampled_from([0.1, 1.0, 7.0, 60.0, 3600.0]),
        burst=st.none() | st.integers(1, 50),
    ),
    st.integers(0, 10**15),
)
def test_a_worker_alone_admits_the_burst_and_not_one_more_whatever_the_clock_says(
    limit: Limit, now: int
) -> None:
    lease, burst = LimitLease("k", limit), limit.burst or limit.rate
    assert sum(lease.spend(now, 1) for _ in range(burst + 2)) == burst
    wait = lease.wait(now)
    assert not lease.spend(now + wait - 1, 1)
    assert lease.spend(now + wait, 1)
    assert lease.remaining(now + wait) == 0


COUNTS = st.integers(0, 12)


@given(st.integers(1, 10), st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_common_store_grants_by_the_rules_that_a_worker_counts_by(
    store: RedisServer, burst: int, claims: list[tuple[int, int, int]]
) -> None:
    interval = 10_000 * SECOND  # within which the script's clock does not matter

    async def granted() -> list[int]:
        async with Redis.from_url(store.url, decode_responses=True) as redis:
            await redis.flushdb()
            ledger = RedisLimitStore(redis)
            settled = [await ledger.sync([Claim("k", interval, burst, *claim)]) for claim in claims]
        return [settlement.grants[0].requests for settlement in settled]

    tat, expected = 0, []
    for debt, refund, wanted in claims:
        latest = gcra.latest(0, interval, burst)
        tat = gcra.refund(min(tat, latest), 0, refund * interval)
        tat = min(gcra.spend(tat, 0, debt * interval), max(tat, latest))
        expected.append(max(0, min(wanted, gcra.remaining(tat, 0, interval, burst))))
        tat = gcra.spend(tat, 0, expected[-1] * interval)
    assert asyncio.run(granted()) == expected


async def test_a_worker_that_nobody_asks_stays_counted(pair: tuple[LimitLeases, LimitLeases]) -> None:
    one, other = pair
    async with background.running(one.run):
        await asyncio.sleep(2 * SYNC_SECONDS)
        counted = set()
        for _ in range(10):
            await asyncio.sleep(SYNC_SECONDS)
            await other.sync()
            counted.add(other.workers)
    assert counted == {2}


async def test_an_unused_lease_goes_back_to_the_other_workers(pair: tuple[LimitLeases, LimitLeases]) -> None:
    one, other = pair
    limit = Limit(rate=10, per_seconds=1000, burst=10)
    one.of("k", limit).spend(microseconds(), 2)
    await one.sync()  # leases what is left of the burst for a while
    await one.sync()  # nobody came: it goes back
    other.of("k", limit).spend(microseconds(), 2)
    await other.sync()
    lease = other.of("k", limit)
    admitted = sum(lease.spend(microseconds(), 2) for _ in range(20))
    await other.sync()
    admitted += sum(lease.spend(microseconds(), 2) for _ in range(20))
    assert admitted == 8, "ten at once, one of them spent by each before"


async def test_what_somebody_else_has_put_into_the_store_is_written_over(
    store: RedisServer, pair: tuple[LimitLeases, LimitLeases]
) -> None:
    """One key of another type would have every limit of its pipeline counted by each worker alone."""
    one, _ = pair
    limit = Limit(rate=10, per_seconds=100, burst=10)
    async with Redis.from_url(store.url) as redis:
        await redis.rpush("gateway:workers", "x")
        await redis.rpush("limit:list", "x")
        await redis.set("limit:text", "no number")
        for key in ("list", "text", "own"):
            one.of(key, limit).spend(microseconds(), 2)
        await one.sync()
        assert one.workers == 1
        admitted = {
            key: sum(one.of(key, limit).spend(microseconds(), 1) for _ in range(20))
            for key in ("list", "text", "own")
        }
        assert set(admitted.values()) == {5}, "the share that was leased"
        await redis.zadd("gateway:workers", {f"nobody-{number}": "inf" for number in range(5000)})
        await one.sync()
        assert one.workers == 1


@pytest.mark.parametrize(
    "said",
    [[0, [1, "1"]], [-1, [1, "1"]], ["x", [1, "1"]], [10**9, [1, "1"]], [1, [None, None]], [1, 7], [None]],
)
async def test_whatever_the_store_says_requests_are_counted(
    said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def execute(_pipeline: object) -> list[Any]:
        return said

    monkeypatch.setattr(RedisPipeline, "execute", execute)
    leases = LimitLeases(RedisLimitStore(connect("redis://127.0.0.1:1", "default", None)), 1)
    monkeypatch.setattr(leases._store, "_sync", "known")
    limit = Limit(rate=10, per_seconds=100, burst=10)
    assert leases.of("k", limit).spend(microseconds(), leases.workers)
    await leases.sync()
    assert 1 <= leases.workers <= 1000
    await leases.sync()
    leases.of("k", limit).spend(microseconds(), leases.workers)
    await leases.close()


@pytest.mark.quiet
async def test_without_redis_each_worker_goes_on_with_its_share_and_comes_back(
    store: RedisServer, pair: tuple[LimitLeases, LimitLeases]
) -> None:
    one, other = pair
    limit = Limit(rate=100, per_seconds=1, burst=20)
    for leases in (one, other):
        leases.of("k", limit).spend(microseconds(), 2)
        await leases.sync()
    await one.sync()
    assert one.workers == 2
    store.stop()
    started = time.perf_counter()
    await one.sync()
    assert time.perf_counter() - started < 1
    await asyncio.sleep(0.5)
    assert 5 <= sum(one.of("k", limit).spend(microseconds(), one.workers) for _ in range(100)) <= 11
    store.start()
    for _ in range(20):
        await asyncio.sleep(SYNC_SECONDS)
        await one.sync()
        if one.workers == 1:  # only this one has said that it lives
            break
    assert one.workers == 1


async def test_an_allowance_that_is_spent_stays_so_when_the_routes_are_read_anew() -> None:
    leases = LimitLeases(Nowhere(), 1)
    rate: dict[str, Any] = {"rate": 2, "per_seconds": 1000}
    now = microseconds()
    assert [leases.of("k", Limit(**rate)).spend(now, 1) for _ in range(3)] == [True, True, False]
    assert leases.of("k", Limit(**rate | {"rate": 3})).spend(now, 1), "another limit begins anew"


async def test_a_server_whose_clock_was_set_back_refuses_nobody_for_longer_than_a_burst_takes(
    store: RedisServer, pair: tuple[LimitLeases, LimitLeases]
) -> None:
    leases, limit = pair[0], Limit(rate=10, per_seconds=1)
    async with Redis.from_url(store.url) as redis:
        await redis.set("limit:k", int((time.time() + 3600) * 1e6))  # as it was written an hour from now
    leases.of("k", limit).spend(microseconds(), 1)
    await leases.sync()
    assert leases.of("k", limit).remaining(microseconds() + SECOND) == 10


def test_an_address_that_waited_long_enough_is_admitted_again_and_forgotten_once_there_are_many() -> None:
    addresses, now = Addresses(per_second=10, burst=1), time.monotonic()
    for number in range(100_001):
        addresses.admit(b"%d" % number)
    with pytest.raises(AddressLimited):
        addresses.admit(b"7")
    addresses.sweep(now + 1)
    addresses.admit(b"7")
    assert len(addresses) == 1


def test_nobody_is_refused_because_the_clock_was_set_back() -> None:
    limits = Limits(Addresses(per_second=10, burst=10), LimitLeases(Nowhere(), 1))
    route = Route(
        "echo", "a", "/a", frozenset({"GET"}), "a.toml:1", public=True, limit=Limit(rate=5, by="address")
    )
    pipeline = Pipeline(Routes([route]), None, cast("Callers", None), limits)
    for now in (time.time(), time.time() - 3600):
        head = request_head.read(b"GET /a HTTP/1.1\r\nHost: a")
        assert pipeline.decide(head, now).refusal is None


async def test_what_is_whole_again_is_forgotten() -> None:
    leases = LimitLeases(Nowhere(), 1)
    limit = Limit(rate=1000, per_seconds=1)
    first = leases.of("k", limit)
    first.spend(microseconds(), 1)
    await leases.sync()
    await asyncio.sleep(0.01)
    await leases.sync()
    assert leases.of("k", limit) is not first


def test_a_forged_token_costs_its_address_ten_requests() -> None:
    addresses = Addresses(per_second=1, burst=20)
    addresses.admit(b"192.0.2.1")
    addresses.punish(b"192.0.2.1")
    for _ in range(20 - FAILED_VERIFICATION):
        addresses.admit(b"192.0.2.1")
    with pytest.raises(AddressLimited):
        addresses.admit(b"192.0.2.1")
    addresses.admit(b"192.0.2.2")


@pytest.mark.parametrize("kid", [None, "no-such-key"])
async def test_a_token_of_a_key_that_nobody_has_costs_as_much_as_one_with_a_wrong_signature(
    tmp_path: Path, kid: str | None
) -> None:
    async with running(tmp_path, address_rate=0.001, address_burst=20) as gateway:
        token = gateway.issuer.token(header={"kid": kid} if kid else {})[:-6] + "AAAAAA"
        response = await gateway.send(get(b"/private", b"Authorization: Bearer " + token.encode()))
        assert response.startswith(b"HTTP/1.1 401 ")
        responses = [await gateway.send(get(b"/public/a")) for _ in range(20 - FAILED_VERIFICATION + 1)]
    assert [response[9:12] for response in responses] == [b"200"] * (20 - FAILED_VERIFICATION) + [b"429"]


@pytest.mark.quiet
@pytest.mark.parametrize("seconds", [4, pytest.param(10, marks=pytest.mark.endurance)])
async def test_two_workers_of_a_gateway_admit_together_what_a_route_allows(
    tmp_path: Path, store: RedisServer, seconds: int
) -> None:
    table = ROUTE.format(name="a", path="/a") + ROUTE.format(name="b", path="/b")
    table += "limit = { rate = 200, per_seconds = 10, burst = 20, by = 'address' }\n"
    async with serving(tmp_path, echo, table, WORKERS="2", LIMITS_REDIS_URL=store.url) as gateway:
        await until(lambda: len(gateway.workers()) == 2)
        # Both have to have said that they live, else one of them takes the burst for its own.
        redis = Redis.from_url(store.url)
        await until(lambda: _counted(redis, 2))
        await redis.aclose()
        started = time.perf_counter()
        admitted = sum(await asyncio.gather(*(_press(gateway.port, started + seconds) for _ in range(8))))
        took = time.perf_counter() - started
        refusals = await gateway.metric('gateway_refusals_total{code="rate_limited"')
    assert admitted == pytest.approx(20 + 200 * took / 10, rel=0.1)
    assert refusals > admitted


async def _counted(redis: Redis, workers: int) -> bool:
    return bool(await redis.zcard("gateway:workers") == workers)


async def _press(port: int, until_then: float) -> int:
    """How many of one client's requests were admitted; each comes on a connection of its own, to any worker."""
    admitted = 0
    while time.perf_counter() < until_then:
        async with connected(port) as (reader, writer):
            writer.write(b"GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            response = await reader.read()
        assert response[9:12] in (b"200", b"429")
        admitted += response[9:12] == b"200"
        await asyncio.sleep(0.04)
    return admitted


def _of_the_56(number: int) -> bytes:
    return b"2001:db8:0:%x::1" % number


def test_who_has_all_networks_of_an_ipv6_56_has_the_requests_of_two_of_them() -> None:
    addresses = Addresses(per_second=0.001, burst=10)
    for number in range(2):
        for _ in range(10):
            addresses.admit(_of_the_56(number))
    with pytest.raises(AddressLimited):
        addresses.admit(_of_the_56(2))
    addresses.admit(b"2001:db8:0:100::1")  # another /56


def test_who_has_all_networks_of_an_ipv6_56_has_a_routes_limit_four_times() -> None:
    """So many registrations, from however many addresses, when one /64 has one a minute."""
    limits = Limits(Addresses(per_second=0, burst=1), LimitLeases(Nowhere(), 1))
    limit = Limit(rate=1, per_seconds=60, by="address")
    route = Route("echo", "a", "/a", frozenset({"GET"}), "a.toml:1", public=True, limit=limit)
    pipeline = Pipeline(Routes([route]), ClientAddress(["192.0.2.1"]), cast("Callers", None), limits)

    def ask(client: bytes) -> Problem | None:
        head = request_head.read(b"GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + client)
        head.peer = b"192.0.2.1"
        return pipeline.decide(head, time.time()).refusal

    assert [ask(_of_the_56(number)) for number in range(4)] == [None] * 4
    refusal = ask(_of_the_56(4))
    assert isinstance(refusal, RouteLimited)
    assert refusal.headers == {"Retry-After": "15"}
    assert ask(b"2001:db8:0:100::1") is None
    assert isinstance(ask(b"2001:db8:0:100::1"), RouteLimited)


def test_who_has_all_networks_of_an_ipv6_48_holds_no_more_open_than_three_of_them() -> None:
    held = PerAddress(10)
    networks = [network_of(_of_the_56(number)) for number in range(0, 65536, 97)]
    taken = [network for network in networks * 10 if held.take(network)]
    assert len(taken) == 30
    assert held.take(network_of(b"2001:db8:1::1"))
    for network in taken:
        held.leave(network)
    assert held.take(networks[0])
    assert held.enter(networks[1]) <= 0
