"""The journey of a session: sign in, renew, sign out; and what a refused sign-in tells: nothing about the account."""

import asyncio
import re
import time
from itertools import count
from typing import Any

import anyio.to_thread
import httpx
import pytest
from conftest import ISSUER, Service
from people import People


async def test_signing_in_gives_a_token_that_verifies(service: Service, people: People) -> None:
    grant = await service.sign_in()
    assert grant["token_type"] == "Bearer"
    assert grant["expires_in"] == 300
    assert grant["scope"] == "*"
    async with service.client(grant["access_token"]) as client:
        response = await client.get("/auth/verify")
    assert response.status_code == 204
    assert response.headers["x-auth-subject"] == people["ada@example.com"]["id"]


async def test_renewing_gives_a_new_pair_of_the_same_session(service: Service) -> None:
    grant = await service.sign_in()
    response = await service.refresh(grant["refresh_token"])
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["refresh_token"].split(".")[:3] == [grant["refresh_token"].split(".")[0], "1", "0"]


async def test_signing_out_refuses_both_tokens(service: Service) -> None:
    grant = await service.sign_in()
    response = await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert response.status_code == 200
    assert (await service.refresh(grant["refresh_token"])).json()["code"] == "session_ended"
    await service.until_refused(grant["access_token"], "session_revoked")


async def test_the_metadata_names_the_issuer_byte_for_byte(service: Service) -> None:
    assert (await service.public.get("/.well-known/oauth-authorization-server")).json()["issuer"] == ISSUER


# Who tries, and with what: the account's name and whether the password is its own.
ACCOUNTS = {
    "unknown": ("nobody@example.com", False),
    "unknown, with somebody's password": ("none@example.com", True),
    "wrong password": ("ada@example.com", False),
    "disabled, with its password": ("eve@example.com", True),
    "disabled, with a wrong one": ("eva@example.com", False),
}


@pytest.mark.parametrize("state", ["free", "counted", "locked"])
async def test_unknown_wrong_disabled_and_locked_accounts_get_the_same_answer(
    service: Service, people: People, redis: Any, state: str
) -> None:
    for disabled in ("eve@example.com", "eva@example.com"):
        people.add(disabled)["status"] = "disabled"
    addresses = map("203.0.113.{}".format, count(1))
    told: dict[str, tuple[Any, ...]] = {}
    for account, (name, right) in ACCOUNTS.items():
        async with service.client(address=next(addresses)) as client:

            async def attempt(
                name: str = name, right: bool = right, client: httpx.AsyncClient = client
            ) -> httpx.Response:
                password = People.PASSWORD if right else "not the password"
                form = {"grant_type": "password", "username": name, "password": password}
                return await client.post("/auth/token", data=form)

            if state != "free":
                await attempt()
            if state == "locked":
                [backoff] = [key async for key in redis.scan_iter("signin:backoff:*")]
                await redis.hset(backoff, "until", int(time.time() * 1000) + 600_500)
            told[account] = everything_in(await attempt())
        await redis.delete(*[key async for key in redis.scan_iter("signin:backoff:*")])
    if state == "locked":  # whoever knows the password learns no more
        assert {status for status, *_ in told.values()} == {429}
    else:
        assert {status for status, *_ in told.values()} == {400}
    [_] = set(told.values())


def everything_in(response: httpx.Response) -> tuple[Any, ...]:
    """Status, body and header fields; but for the request's id, and for seconds that pass between two answers."""
    headers = {
        name: value for name, value in response.headers.items() if name not in ("x-request-id", "date")
    }
    for name in ("ratelimit", "retry-after"):
        if name in headers:
            headers[name] = re.sub(r"(t=|^)\d+$", r"\1seconds", headers[name])
    return response.status_code, response.text, tuple(headers.items())


async def test_nothing_of_a_request_waits_for_a_thread(service: Service) -> None:
    """FastAPI runs plain functions in threads; here there is none to be had."""
    threads = anyio.to_thread.current_default_thread_limiter()
    many, threads.total_tokens = threads.total_tokens, 0
    try:
        async with asyncio.timeout(10):
            grant = await service.sign_in()
            async with service.client(grant["access_token"]) as client:
                for path in ("/auth/verify", "/auth/sessions", "/.well-known/jwks.json"):
                    assert (await client.get(path)).is_success
            assert (await service.refresh(grant["refresh_token"])).status_code == 200
            assert (
                await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
            ).is_success
    finally:
        threads.total_tokens = many
