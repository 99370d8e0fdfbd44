"""Which address gets a request, which is left alone, and what may be sent a second time."""

import pytest

from gateway.clock import Clock
from gateway.routing.endpoints import Endpoints, parse
from gateway.upstream import balancing
from gateway.upstream.breaker import Breaker
from gateway.upstream.pool import Bounds, Pool
from gateway.upstream.request_body import Bodies
from gateway.upstream.retries import RetryBudget
from gateway.upstream.upstream import Upstream
from tests.conftest import GatewayUnderTest


def two_addresses() -> list[Pool]:
    return Upstream(
        "echo", Endpoints.of(parse("127.0.0.1:1,127.0.0.2:1", 8000)), Bounds(), Clock(), Bodies(1, 1)
    ).pools


def test_the_address_with_the_fewest_requests_outstanding_is_next() -> None:
    busy, free = two_addresses()
    busy.outstanding = 3
    assert balancing.choose([busy, free], 0.0, None) is free


def test_addresses_that_are_equally_free_get_requests_in_turn() -> None:
    pools = two_addresses()
    for pool in pools:
        balancing.succeeded(pool)
    assert [balancing.choose(pools, 0.0, None) for _ in range(4)] == [*pools, *pools]
    pools.append(
        Upstream("echo", Endpoints.of(parse("127.0.0.3:1", 8000)), Bounds(), Clock(), Bodies(1, 1)).pools[0]
    )
    assert balancing.choose(pools, 0.0, None) is pools[2]


def test_a_new_address_gets_one_request_until_it_has_answered_and_then_its_share() -> None:
    known, new = two_addresses()
    balancing.succeeded(known)
    known.outstanding = 5
    assert balancing.choose([known, new], 0.0, None) is new
    new.outstanding = 1
    assert balancing.choose([known, new], 0.0, None) is known
    balancing.succeeded(new)
    assert balancing.choose([known, new], 0.0, None) is new


def test_where_all_addresses_are_new_they_share() -> None:
    one, other = two_addresses()
    one.outstanding, other.outstanding = 3, 2
    assert balancing.choose([one, other], 0.0, None) is other


def test_an_address_that_failed_three_times_is_left_alone_for_a_while_and_longer_the_next_time() -> None:
    bad, good = two_addresses()
    good.outstanding = 100
    for _ in range(3):
        balancing.failed(bad, 10.0)
    assert balancing.choose([bad, good], 10.5, None) is good
    assert balancing.choose([bad, good], 11.5, None) is bad
    for _ in range(3):
        balancing.failed(bad, 20.0)
    assert balancing.choose([bad, good], 21.5, None) is good
    balancing.succeeded(bad)
    for _ in range(3):
        balancing.failed(bad, 30.0)
    assert balancing.choose([bad, good], 31.5, None) is bad


def test_the_last_address_is_never_left_alone() -> None:
    pools = two_addresses()
    for pool in pools:
        for _ in range(30):
            balancing.failed(pool, 10.0)
    assert balancing.choose(pools, 10.1, None) in pools
    assert balancing.choose(pools[:1], 10.1, pools[0]) is pools[0]


def test_a_second_try_goes_to_another_address() -> None:
    tried, other = two_addresses()
    other.outstanding = 100
    assert balancing.choose([tried, other], 0.0, tried) is other


def test_a_replica_that_has_its_name_before_it_listens_does_not_close_the_service_that_the_other_serves() -> (
    None
):
    """As every new container of a rolling release; when the other cannot be reached either, the service is down."""
    service = Upstream(
        "echo", Endpoints.of(parse("127.0.0.1:1,127.0.0.2:1", 8000)), Bounds(), Clock(), Bodies(1, 1)
    )
    serving, starting = service.pools
    for _ in range(20):
        service.connect_failed(starting, ConnectionRefusedError())
    assert not service.breaker.open
    for _ in range(20):
        service.connect_failed(serving, ConnectionRefusedError())
    assert service.breaker.open


def test_what_is_not_answered_in_time_closes_no_service_that_answers_other_requests_meanwhile() -> None:
    """Else a pile of slow sign-ins would have the key set and every refresh refused."""
    service = Upstream("echo", Endpoints.of(parse("127.0.0.1:1", 8000)), Bounds(), Clock(), Bodies(1, 1))
    (pool,) = service.pools
    pool.responded_at = 10.0
    for _ in range(20):
        service.timed_out(pool, since=9.0)
    assert not service.breaker.open
    assert not pool.ejections
    for _ in range(5):
        service.timed_out(pool, since=11.0)
    assert service.breaker.open
    assert pool.ejections


def test_an_open_breaker_lets_one_request_a_second_find_out_and_closes_at_its_success() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(10.0)
    assert breaker.admits(10.0)
    breaker.failed(10.0)
    assert not breaker.admits(10.9)
    assert [breaker.admits(11.1) for _ in range(3)] == [True, False, False]
    breaker.failed(11.2)
    assert not breaker.admits(11.9)
    assert breaker.admits(12.2)
    breaker.succeeded()
    assert all(breaker.admits(12.2) for _ in range(3))


@pytest.mark.parametrize(("requests", "retries"), [(0, 3), (10, 3), (15, 3), (20, 4), (1000, 200)])
def test_a_fifth_of_the_requests_may_be_repeated_but_three_always(requests: int, retries: int) -> None:
    budget = RetryBudget()
    budget.sweep(0.0)
    budget.requests = requests
    assert sum(budget.take(1.0) for _ in range(2000)) == retries
    budget.sweep(10.0)
    assert not budget.take(10.0), "those of the period before count too"
    budget.sweep(20.0)
    assert budget.take(20.0)


REQUEST = b"%b /public/x HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_get_that_got_no_answer_is_sent_once_more(gateway: GatewayUnderTest) -> None:
    gateway.upstream.closes = 1
    assert (await gateway.send(REQUEST % b"GET")).startswith(b"HTTP/1.1 200")
    assert len(gateway.upstream.got) == 2


async def test_a_post_that_was_sent_is_never_sent_again(gateway: GatewayUnderTest) -> None:
    gateway.upstream.closes = 1
    got = await gateway.send(REQUEST % b"POST")
    assert got.startswith(b"HTTP/1.1 502")
    assert len(gateway.upstream.got) == 1
