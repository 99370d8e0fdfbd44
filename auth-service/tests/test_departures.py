"""Callers who leave while they sign in: nobody works on for them, and they cost those who stay nothing."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import Service, make_settings, started
from fastapi import Response
from people import People
from starlette.types import ASGIApp

WIDTH = 6  # one more than may fail at once before the next one has to wait


class Leaver:
    """Signs in, and leaves when told to."""

    def __init__(
        self, app: ASGIApp, password: str = People.PASSWORD, email: str = "ada@example.com", address: str = ""
    ) -> None:
        self._app = app
        self._address = address or "127.0.0.1"
        form = {"grant_type": "password", "username": email, "password": password}
        self._messages = [{"type": "http.request", "body": urlencode(form).encode()}]
        self.left = asyncio.Event()

    async def sign_in(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/auth/token",
            "raw_path": b"/auth/token",
            "query_string": b"",
            "scheme": "http",
            "server": ("auth", 8000),
            "client": (self._address, 1),
            "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._messages and not self.left.is_set():
            return self._messages.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, _: MutableMapping[str, Any]) -> None:
        """Nobody reads it."""


@pytest.fixture
async def service(redis_url: str, people: People, tmp_path: Path) -> AsyncIterator[Service]:
    """One that asks user-service for a few at once only."""
    settings = make_settings(
        redis_url, people.url, tmp_path, users_concurrency=WIDTH, users_timeout_seconds=60
    )
    async with started(settings) as running:
        yield running


async def until_checked(people: People, passwords: int) -> None:
    async with asyncio.timeout(5):
        while people.hashed < passwords:
            await asyncio.sleep(0.01)


async def test_those_who_leave_while_their_password_is_checked_keep_no_place_and_hold_up_no_account(
    service: Service, people: People
) -> None:
    people.delay = 60
    # From networks of their own: of one network most wait.
    leavers = [Leaver(service.app, address=f"192.0.{number}.1") for number in range(WIDTH)]
    signing_in = [asyncio.create_task(each.sign_in()) for each in leavers]
    await until_checked(people, WIDTH)
    for each in leavers:
        each.left.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*signing_in)
    people.delay = 0
    await service.sign_in()


async def test_those_who_leave_again_and_again_are_counted_by_their_address(
    service: Service, people: People
) -> None:
    """Else somebody with two addresses and no account could keep every place in which passwords are checked."""
    people.delay = 60

    async def leave(number: int) -> None:
        before = people.hashed
        leaver = Leaver(service.app, email=f"{number}@example.com", address="192.0.2.1")
        signing_in = asyncio.create_task(leaver.sign_in())
        await until_checked(people, before + 1)
        leaver.left.set()
        await signing_in

    for number in range(20):
        await leave(number)
    people.delay = 0
    async with service.client(address="192.0.2.1") as there, service.client(address="192.0.2.2") as elsewhere:
        form = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}
        refused = await there.post("/auth/token", data=form)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
        assert (await elsewhere.post("/auth/token", data=form)).status_code == 200


async def test_a_wrong_password_counts_although_its_caller_left_before_hearing_so(
    service: Service, people: People, redis: Any
) -> None:
    """Else guesses would be free: a right one is seen by what it does to the account's wait."""
    people.raw = Response(b'{"verified": false, "reason": "wrong_password", "wait": 0.5}')
    leavers = [Leaver(service.app, "wrong") for _ in range(WIDTH)]
    signing_in = [asyncio.create_task(each.sign_in()) for each in leavers]
    await until_checked(people, WIDTH)
    async with asyncio.timeout(5):
        while people.under_way:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # user-service has answered
    for each in leavers:
        each.left.set()
    await asyncio.gather(*signing_in)
    [backoff] = [key async for key in redis.scan_iter("signin:backoff:*")]
    assert await redis.hget(backoff, "failures") == str(WIDTH)


async def test_nobody_is_asked_about_a_caller_who_has_left_already(service: Service, people: People) -> None:
    leaver = Leaver(service.app)
    leaver.left.set()
    await leaver.sign_in()
    assert not people.requests
