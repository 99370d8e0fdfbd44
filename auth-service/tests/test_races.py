"""What meets a refresh: the session's end, 200 times, fifty others, and clients that do not wait for the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from conftest import Service, make_settings, started
from people import People
from test_rotation import UNLIMITED

EMAIL = "ada@example.com"

End = Callable[[Service, People, Any, dict[str, Any]], Awaitable[Any]]


async def sign_out(service: Service, _people: People, _redis: Any, grant: dict[str, Any]) -> None:
    response = await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert response.status_code == 200


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
            response = await refresh
            met.add(response.status_code)
            assert response.status_code in (200, 400), response.text
            held += [grant] if response.status_code == 400 else [grant, response.json()]
        for grant in held:
            assert (await service.refresh(grant["refresh_token"])).status_code == 400
            await _until_refused(service, grant["access_token"])
    assert 200 in met


async def test_fifty_refreshes_that_meet_the_end_are_each_renewed_or_told_of_it(service: Service) -> None:
    met: set[int] = set()
    for _ in range(5):
        token = (await service.sign_in())["refresh_token"]
        early = [asyncio.ensure_future(service.refresh(token)) for _ in range(25)]
        await asyncio.wait(early, return_when=asyncio.FIRST_COMPLETED)
        end = service.public.post("/auth/revoke", data={"token": token})
        late = [service.refresh(token) for _ in range(25)]
        ended, *responses = await asyncio.gather(end, *early, *late)
        assert ended.status_code == 200
        for response in responses:
            met.add(response.status_code)
            if response.status_code == 200:
                response = await service.refresh(response.json()["refresh_token"])
            refusal = response.status_code, response.json()["error"], response.json()["code"]
            assert refusal == (400, "invalid_grant", "session_ended")
    assert met == {200, 400}


async def test_whoever_does_not_wait_for_the_answer_takes_no_connection_along_and_gets_nobody_elses(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    """Sixteen hundred refreshes and sign-ins given up at whatever they are doing; then a hundred of a hundred."""
    names = [f"person-{number}@example.com" for number in range(20)]
    for name in names:
        people.add(name)
    patient = UNLIMITED | {"users_concurrency": 100, "users_timeout_seconds": 10, "redis_timeout_seconds": 10}
    async with started(make_settings(redis_url, people.url, tmp_path, **patient)) as service:
        tokens = [(await service.sign_in(name))["refresh_token"] for name in names]
        for number in range(40):
            asking: list[Awaitable[Any]] = [service.refresh(token) for token in tokens]
            asking += [service.sign_in(name) for name in names]
            leaving = [asyncio.ensure_future(each) for each in asking]
            await asyncio.wait(leaving, timeout=number / 500)
            for each in leaving:
                each.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
        responses = await asyncio.gather(*(service.refresh(token) for token in tokens for _ in range(5)))
        assert [response.text for response in responses if response.status_code != 200] == []
        for number, response in enumerate(responses):
            claims = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
            assert claims["sub"] == people[names[number // 5]]["id"]
            assert claims["sid"] == tokens[number // 5].split(".")[0]
        async with service.parts.store.connection() as redis:
            assert not redis.connection_pool._in_use_connections


async def _until_refused(service: Service, token: str) -> None:
    async with asyncio.timeout(2), service.client(token) as client:
        while (await client.get("/auth/verify")).status_code != 401:
            await asyncio.sleep(0.01)
