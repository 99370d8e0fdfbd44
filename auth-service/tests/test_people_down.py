"""user-service is away, hangs or comes late: refused in time, never in a pile, and no session pays for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from conftest import Service, make_settings, started
from fastapi import Response
from people import People, serve_people
from test_rotation import UNLIMITED

from service_kit.testing import free_port

AT_ONCE, HANGING = 1.0, 2.5  # seconds
WIDTH = 8


@pytest.fixture
async def service(redis_url: str, people: People, tmp_path: Path) -> AsyncIterator[Service]:
    """One that asks user-service for a few at once only, and has patience with a Redis on a busy machine."""
    limits = UNLIMITED | {"users_concurrency": WIDTH, "redis_timeout_seconds": 10}
    async with started(make_settings(redis_url, people.url, tmp_path, **limits)) as running:
        yield running


async def timed(asking: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    response = await asking
    return response, time.monotonic() - began


def sign_in(service: Service, name: str = "ada@example.com") -> Awaitable[httpx.Response]:
    return service.token(grant_type="password", username=name, password=People.PASSWORD)


def is_unavailable(response: httpx.Response) -> bool:
    return (response.status_code, response.json().get("code")) == (503, "users_unavailable") and int(
        response.headers["retry-after"]
    ) >= 1


async def until_answered(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    async with asyncio.timeout(5):
        while (response := await ask()).status_code == 503:
            await asyncio.sleep(0.05)
    return response


async def test_started_before_user_service_and_again_without_it_everything_is_refused_in_time(
    redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    async with started(make_settings(redis_url, f"http://127.0.0.1:{port}", tmp_path)) as service:
        response, seconds = await timed(sign_in(service))
        assert is_unavailable(response)
        assert seconds < AT_ONCE
        async with serve_people(port):
            grant = (await until_answered(lambda: sign_in(service))).json()
        for asking in (sign_in(service), service.refresh(grant["refresh_token"])):
            response, seconds = await timed(asking)
            assert is_unavailable(response)
            assert seconds < AT_ONCE
        async with serve_people(port) as people:
            people["ada@example.com"]["id"] = (
                await service.parts.sessions.find(grant["refresh_token"])
            ).session.subject
            renewed = await until_answered(lambda: service.refresh(grant["refresh_token"]))
        assert renewed.status_code == 200


async def test_two_hundred_at_once_while_user_service_hangs_make_no_pile_and_none_waits_longer(
    service: Service, people: People
) -> None:
    token = (await service.sign_in())["refresh_token"]
    # Of the same questions, answered. Twice: a busy machine is not equally busy all the time.
    calm = 2 * max(seconds for _, seconds in await crowd(service, token))
    people.delay, people.most_under_way = 60, 0
    responses = await crowd(service, token)
    assert [response.text for response, _ in responses if not is_unavailable(response)] == []
    assert max(seconds for _, seconds in responses) < HANGING + calm
    assert people.most_under_way <= 2 * WIDTH
    assert sorted(seconds for _, seconds in responses)[200 - 2 * WIDTH - 1] < AT_ONCE + calm
    # Now that it is known to hang, nobody waits for it but one a second who finds out.
    responses = await crowd(service, token)
    assert [response.text for response, _ in responses if not is_unavailable(response)] == []
    assert sorted(seconds for _, seconds in responses)[200 - 3] < AT_ONCE + calm
    people.delay = 0
    assert (await until_answered(lambda: service.refresh(token))).status_code == 200
    assert (await until_answered(lambda: sign_in(service))).status_code == 200


async def crowd(service: Service, refresh_token: str) -> list[tuple[httpx.Response, float]]:
    """A hundred sign-ins and a hundred refreshes at once, with how long each took."""
    asking = [
        sign_in(service, f"person-{number}@example.com") if number % 2 else service.refresh(refresh_token)
        for number in range(200)
    ]
    return await asyncio.gather(*map(timed, asking))


@pytest.mark.parametrize(
    "response",
    [
        Response(b"<html>"),
        Response(b"\xff"),
        Response(b"[" * 100_000),
        Response(b"null"),
        Response(b"[]"),
        Response(b'{"verified": true, "user": null, "id": "1"}'),
        Response(b'{"verified": true, "user": {"id": "1"}, "id": "1"}'),
        Response(
            b'{"verified": true, "user": {"id": "1", "status": "active", "roles": 1}, "id": "1", "status": ""}'
        ),
        Response(
            b'{"verified": true, "user": {"id": "1", "status": "active", "roles": [], "sessions_cv": 1,'
            b' "credentials_version": 1e999}, "id": "1", "status": "", "roles": [], "credentials_version": 1e999}'
        ),
        Response(b'{"verified": false}'),
        Response(b'{"verified": false, "reason": "unknown", "wait": 1e999, "id": "1"}'),
        Response(b'{"verified": false, "reason": "unknown", "wait": NaN, "id": "1"}'),
        Response(status_code=503, headers={"retry-after": "9" * 5000}),
        Response(status_code=503, headers={"retry-after": "\xb2"}),
        Response(status_code=302, headers={"location": "/"}),
        # Of somebody else at this address, or of user-service's other port.
        Response(status_code=404),
        Response(b"[]", 404),
        Response(b'{"code": "not_found", "status": 404}', 404),
    ],
    ids=lambda response: f"{response.status_code} {response.body[:40]!r}",
)
async def test_an_answer_that_says_something_else_is_none(
    service: Service, people: People, response: Response
) -> None:
    token = (await service.sign_in())["refresh_token"]
    people.raw = response
    assert is_unavailable(await sign_in(service))
    assert is_unavailable(await service.refresh(token))
    people.raw = None
    assert (await service.refresh(token)).status_code == 200
    assert (await sign_in(service)).status_code == 200


async def test_one_slow_answer_among_others_makes_nobody_else_wait(service: Service, people: People) -> None:
    token = (await service.sign_in())["refresh_token"]
    people.delay = 60
    slow = asyncio.create_task(service.refresh(token))
    while people.under_way < 1:
        await asyncio.sleep(0.01)
    people.delay = 0
    while not slow.done():
        assert (await service.refresh(token)).status_code == 200
        await asyncio.sleep(0.05)
    assert is_unavailable(slow.result())
    assert (await service.refresh(token)).status_code == 200


async def test_refusals_that_are_kept_back_keep_nobody_else_out(service: Service, people: People) -> None:
    wait = 1.5
    people.raw = Response(b'{"verified": false, "reason": "unknown", "wait": %.1f}' % wait)
    kept_back = [
        asyncio.ensure_future(timed(sign_in(service, f"person-{number}@example.com")))
        for number in range(WIDTH)
    ]
    async with asyncio.timeout(5):
        while len(people.requests) < WIDTH or people.under_way:
            await asyncio.sleep(0.01)
    people.raw = None
    assert (await sign_in(service)).status_code == 200
    for response, seconds in await asyncio.gather(*kept_back):
        assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")
        assert seconds >= wait
    assert {request.url.query for request in people.requests} == {"caller_waits=true"}


async def test_a_caller_who_goes_away_leaves_nothing_behind(service: Service, people: People) -> None:
    people.delay = 0.2
    names = [f"person-{number}@example.com" for number in range(WIDTH)]
    for name in names:
        people.add(name)
    for _ in range(4):
        leaving = [asyncio.ensure_future(sign_in(service, name)) for name in names]
        await asyncio.sleep(0.05)
        for each in leaving:
            each.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        async with asyncio.timeout(5):
            while people.under_way:
                await asyncio.sleep(0.01)
    people.delay = 0
    responses = await asyncio.gather(*(sign_in(service, name) for name in names))
    assert {response.status_code for response in responses} == {200}
