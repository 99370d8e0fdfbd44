"""Places for questions to user-service: one network leaves the others theirs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

from auth_service.users.bulkhead import Bulkhead
from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.http import Client

WIDTH = 16
NEVER = 60.0


class Calls:
    """Calls that end when told to."""

    def __init__(self, deadline: float = NEVER, *, failing: bool = False) -> None:
        self.bulkhead = Bulkhead(cast("Client", SimpleNamespace(failing=failing)), WIDTH, deadline)
        self.under_way: list[str] = []
        self._end = asyncio.Event()

    async def one(self, network: str) -> str:
        try:
            async with self.bulkhead.place(network):
                self.under_way.append(network)
                await self._end.wait()
        except UsersUnavailable:
            return "refused"
        return "answered"

    async def begin(self, *networks: str) -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(self.one(network)) for network in networks]
        await asyncio.sleep(0)
        return tasks

    def end(self) -> None:
        self._end.set()


@contextmanager
def ending(calls: Calls) -> Iterator[None]:
    try:
        yield
    finally:
        calls.end()


async def test_one_network_has_a_share_under_way_and_the_rest_of_its_calls_wait() -> None:
    calls = Calls()
    with ending(calls):
        flood = await calls.begin(*["192.0.2.0/24"] * WIDTH)
        assert calls.under_way == ["192.0.2.0/24"] * 3
    assert set(await asyncio.gather(*flood)) == {"answered"}
    assert len(calls.under_way) == WIDTH


async def test_whoever_comes_when_all_places_are_taken_gets_one_of_the_network_that_has_most_in_line() -> (
    None
):
    calls = Calls()
    with ending(calls):
        flood = await calls.begin(*["192.0.2.0/24"] * (WIDTH + 4))
        others = await calls.begin("198.51.100.0/24", "203.0.113.0/24", "2001:db8::/48")
        assert calls.under_way[3:] == ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/48"]
    assert set(await asyncio.gather(*others)) == {"answered"}
    assert (await asyncio.gather(*flood)).count("refused") == 4 + 3


async def test_a_call_that_is_given_up_in_line_leaves_its_place_and_takes_no_turn() -> None:
    calls = Calls()
    with ending(calls):
        flood = await calls.begin(*["192.0.2.0/24"] * WIDTH)
        for each in flood[3:]:
            each.cancel()
        await asyncio.gather(*flood[3:], return_exceptions=True)
        again = await calls.begin(*["192.0.2.0/24"] * (WIDTH - 3))
    assert set(await asyncio.gather(*flood[:3], *again)) == {"answered"}


async def test_a_turn_that_comes_as_its_call_is_given_up_goes_to_the_next() -> None:
    calls = Calls()
    with ending(calls):
        flood = await calls.begin(*["192.0.2.0/24"] * 5)
        flood[0].cancel()
        await asyncio.sleep(0)  # it ends, and the fourth has its turn
        flood[3].cancel()
        await asyncio.gather(flood[0], flood[3], return_exceptions=True)
        await asyncio.sleep(0)
        assert len(calls.under_way) == 4
    assert set(await asyncio.gather(*flood[1:3], flood[4])) == {"answered"}


async def test_whoever_waits_longer_than_a_call_may_take_is_refused() -> None:
    calls = Calls(0.05)
    flood = await calls.begin(*["192.0.2.0/24"] * 5)
    assert set(await asyncio.gather(*flood)) == {"refused"}
    assert len(calls.under_way) == 3


async def test_who_came_to_ask_late_and_got_no_answer_in_the_time_left_keeps_nobody_else_out() -> None:
    """After a crowd that left, sign-ins were refused for a second although user-service was well."""
    calls = Calls(0.5, failing=True)
    flood = await calls.begin(*["192.0.2.0/24"] * 4)
    await asyncio.sleep(0.3)
    for each in flood[:3]:
        each.cancel()
    await asyncio.gather(*flood[:3], return_exceptions=True)
    assert await flood[3] == "refused"
    calls.end()
    [other] = await calls.begin("198.51.100.0/24")
    assert await other == "answered"
