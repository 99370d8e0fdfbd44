"""MySQL or Redis is killed, frozen or comes back empty: what still works, what is said, and what is never lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from gatehouse_e2e.api import Person, Refused
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, suffer
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.breaks


def test_without_mysql_everybody_is_told_soon_and_tokens_are_still_checked(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    def mend() -> None:
        parts.start_again("mysql")
        until(lambda: accepts_connections(parts), 60, "MySQL accepts connections", every=0.2)

    with steady("MySQL killed") as seen:
        for _ in range(rounds):
            fault = suffer(seen, "killed", lambda: parts.kill("mysql"), mend)
            assert {one.status for one in fault.failures(*API) if one.status} <= {503}
            promise("MySQL killed: 503", fault.slowest(*API), at_most=3)
            promise(
                "MySQL killed: token checks failed", len(fault.failures("auth:check")), at_most=0, unit=""
            )
            promise("MySQL killed: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


@pytest.mark.full
def test_a_frozen_mysql_is_said_before_callers_lose_patience(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("MySQL paused") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "paused", lambda: parts.pause("mysql"), lambda: parts.resume("mysql"), lasts=6
            )
            assert {one.status for one in fault.failures(*API) if one.status} <= {503}
            promise("MySQL paused: 503", fault.slowest(*API), at_most=3)
            promise(
                "MySQL paused: token checks failed", len(fault.failures("auth:check")), at_most=0, unit=""
            )
            promise("MySQL paused: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


def test_a_registration_cut_off_by_mysqls_death_is_made_once_when_repeated(
    parts: Compose, people: People, promise: PromiseFixture, full: bool
) -> None:
    strangers = [people.stranger() for _ in range(1000 if full else 24)]
    taken, over = itertools.count(), threading.Event()

    def register(person: Person) -> str:
        body = {"email": person.email, "name": person.name, "password": person.password}
        key = {"Idempotency-Key": f"e2e-{person.email}"}
        patience = time.monotonic() + 120
        while time.monotonic() < patience:
            try:
                answer = people.api(person).http.post("/v1/users", json=body, headers=key)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                next(taken)
                return str(answer.json()["id"])
            if answer.status_code not in (409, 429, 502, 503, 504) or answer.json()["code"] == "email_taken":
                raise Refused(answer)
            time.sleep(0.3)
        raise AssertionError(f"{person.email} is not registered after two minutes")

    def kill_now_and_then() -> None:
        for _ in range(5 if full else 1):
            time.sleep(1)
            parts.kill("mysql")
            parts.start_again("mysql")
            until(lambda: accepts_connections(parts), 60, "MySQL accepts connections", every=0.2)
        over.set()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(register, strangers))
    killer.join()
    assert over.is_set()
    again = [register(person) for person in strangers]
    promise(
        "MySQL killed at COMMIT: duplicates",
        sum(a != b for a, b in zip(ids, again, strict=True)),
        at_most=0,
        unit="",
    )
    for person, made in zip(strangers[::8], ids[::8], strict=True):
        tokens = people.api(person).sign_in(person.email, person.password)
        assert people.api(person).me(tokens).json()["id"] == made


@pytest.mark.parametrize("how", ["killed", pytest.param("paused", marks=pytest.mark.full)])
def test_the_api_works_from_memory_without_redis(
    how: str,
    parts: Compose,
    steady: SteadyFixture,
    people: People,
    promise: PromiseFixture,
    rounds: int,
    full: bool,
) -> None:
    begin, mend = {"killed": (parts.kill, parts.start_again), "paused": (parts.pause, parts.resume)}[how]
    with steady(f"Redis {how}") as seen:
        for _ in range(rounds):
            leaver = people.signed_in()
            fault = suffer(seen, how, partial(without_redis, begin, people, leaver), partial(mend, "redis"))
            promise(f"Redis {how}: API errors", len(fault.failures(*API)), at_most=0, unit="")
            if full:  # a machine shared with other work cannot tell milliseconds
                promise(f"Redis {how}: added p99", fault.added(0.99, "read"), at_most=0.005)
            promise(f"Redis {how}: back", fault.back_after(*SIGNING_IN), at_most=5)


@pytest.mark.full
def test_after_a_minute_without_redis_nobody_passes_unchecked(
    parts: Compose, people: People, person: Person
) -> None:
    api = people.api(person)
    parts.pause("redis")
    try:
        until(lambda: status(people, person) == 503, 75, "authenticated routes answer 503", every=0.5)
        assert (
            api.http.get("/v1/users/me", headers=person.tokens.bearer).json()["code"] == "revocations_stale"
        )
        assert api.http.get("/docs").status_code == 200
    finally:
        parts.resume("redis")
    until(lambda: status(people, person) == 200, 10, "the API is back")


@pytest.mark.full
def test_limits_fall_back_to_each_gateways_own_while_their_redis_is_dead(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int, full: bool
) -> None:
    with steady("limits' Redis killed") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "killed", lambda: parts.kill("redis-limits"), lambda: parts.start_again("redis-limits")
            )
            promise("limits' Redis killed: API errors", len(fault.failures(*API)), at_most=0, unit="")
            if full:  # a machine shared with other work cannot tell milliseconds
                promise("limits' Redis killed: added p99", fault.added(0.99, "read"), at_most=0.005)


def test_an_empty_redis_is_a_new_epoch_whose_keys_no_old_token_has(
    parts: Compose, people: People, promise: PromiseFixture, rounds: int
) -> None:
    for _ in range(rounds):
        innocent, revoked = people.signed_in(), people.signed_in()
        people.api(revoked).sign_out(revoked.tokens.refresh_token)
        until(partial(is_refused, people, revoked), 2, "signed out")
        parts.kill("redis")
        parts.empty_volume("redis-data")
        parts.start_again("redis")
        until(lambda: parts.healthy("redis"), 30, "Redis is up")
        passed = 0
        began = time.monotonic()
        while time.monotonic() - began < 5:
            passed += status(people, revoked) == 200
            if status(people, innocent) == 401:
                break
        promise("Redis empty: older tokens refused", time.monotonic() - began, at_most=2)
        promise("Redis empty: revoked tokens accepted", passed, at_most=0, unit="")
        until(partial(signs_in, people, innocent), 10, "people sign in again")


def test_an_empty_redis_without_auth_service_lets_nobody_pass(
    parts: Compose, people: People, person: Person, promise: PromiseFixture
) -> None:
    parts.kill("auth-service")
    parts.kill("redis")
    parts.empty_volume("redis-data")
    parts.start_again("redis")
    until(lambda: parts.healthy("redis"), 30, "Redis is up")
    until(lambda: status(people, person) == 503, 5, "authenticated routes answer 503")
    passed = sum(status(people, person) != 503 for _ in range(100))
    promise("Redis empty while auth-service is down: passed unchecked", passed, at_most=0, unit="")
    assert parts.ready("gateway")
    parts.start_again("auth-service")
    until(lambda: signs_in(people, person), 15, "people sign in again")


def test_a_gateway_that_starts_without_redis_lets_nobody_pass(
    parts: Compose, people: People, person: Person, promise: PromiseFixture
) -> None:
    parts.stop_part("gateway")
    parts.kill("redis")
    parts.start_again("gateway")
    until(lambda: status(people, person), 15, "the gateway answers")
    passed = sum(status(people, person) != 503 for _ in range(100))
    promise("gateway starts with Redis down: passed unchecked", passed, at_most=0, unit="")
    assert people.api(person).http.get("/docs").status_code == 200
    assert not parts.ready("gateway")
    parts.start_again("redis")
    until(lambda: status(people, person) == 200, 15, "the API is served")


def accepts_connections(parts: Compose) -> bool:
    return "ready for connections" in parts.log("mysql", since=parts.started("mysql"))


def without_redis(begin: Callable[[str], None], people: People, person: Person) -> None:
    """A sign-out that is not durable is not acknowledged."""
    begin("redis")
    answer = people.api(person).http.post("/auth/revoke", data={"token": person.tokens.refresh_token})
    assert answer.status_code in (503, 504), answer.text


def is_refused(people: People, person: Person) -> bool:
    return status(people, person) == 401


def status(people: People, person: Person) -> int:
    try:
        return people.api(person).http.get("/v1/users/me", headers=person.tokens.bearer).status_code
    except httpx.TransportError:
        return 0


def signs_in(people: People, person: Person) -> bool:
    try:
        person.tokens = people.api(person).sign_in(person.email, person.password)
    except Refused as refused:
        assert refused.status in (503, 504)
        return False
    return status(people, person) == 200
