"""Revoke meets refresh, 200 times: once both have been answered, no token of that round works anywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import Service, make_settings, started
from people import People

EMAIL = "ada@example.com"

End = Callable[[Service, People, Any, dict[str, Any]], Awaitable[Any]]


async def sign_out(service: Service, _people: People, _redis: Any, grant: dict[str, Any]) -> None:
    answer = await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert answer.status_code == 200


async def sign_out_everywhere(service: Service, _people: People, _redis: Any, grant: dict[str, Any]) -> None:
    async with service.client(grant["access_token"]) as client:
        assert (await client.delete("/auth/sessions")).status_code == 204


async def disable(_service: Service, people: People, redis: Any, _grant: dict[str, Any]) -> None:
    await redis.xadd("users", people.change(EMAIL, status="disabled"))


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.containers)])
@pytest.mark.parametrize("end", [sign_out, sign_out_everywhere, disable])
async def test_after_an_end_met_a_refresh_no_token_of_that_round_works(
    end: End, rounds: int, redis: Any, redis_url: str, people: People, tmp_path: Any
) -> None:
    limits = {"sign_in_account_per_minute": 6000, "sign_in_address_per_minute": 6000}
    async with started(make_settings(redis_url, people.url, tmp_path, **limits)) as service:
        await asyncio.sleep(0.05)
        met: set[int] = set()
        held: list[dict[str, Any]] = []
        for number in range(rounds):
            people[EMAIL]["status"] = "active"
            grant = await service.sign_in()
            # One after the other both ways, and for the most part truly at once.
            refresh = asyncio.create_task(service.refresh(grant["refresh_token"]))
            if number % 5 == 0:
                await refresh
            await end(service, people, redis, grant)
            answer = await refresh
            met.add(answer.status_code)
            assert answer.status_code in (200, 400), answer.text
            held += [grant] if answer.status_code == 400 else [grant, answer.json()]
        for grant in held:
            assert (await service.refresh(grant["refresh_token"])).status_code == 400
            await _until_refused(service, grant["access_token"])
    assert 200 in met


async def _until_refused(service: Service, token: str) -> None:
    async with asyncio.timeout(2), service.client(token) as client:
        while (await client.get("/auth/verify")).status_code != 401:
            await asyncio.sleep(0.01)
