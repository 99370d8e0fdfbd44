"""A service is killed, frozen or not there yet: who notices, what they are told, how soon all is well again."""

from __future__ import annotations

import time

import httpx
import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, suffer
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.breaks


def test_nobody_with_a_token_notices_that_auth_service_died(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("auth-service killed") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "killed", lambda: parts.kill("auth-service"), lambda: parts.start_again("auth-service")
            )
            said = [one for one in fault.failures(*SIGNING_IN, after=1) if one.status]
            assert said
            assert {one.status for one in said} <= {503}
            assert all(one.retry_after for one in said)
            promise("auth-service killed: API errors", len(fault.failures(*API)), at_most=0, unit="")
            promise("auth-service killed: sign-in told so", fault.slowest(*SIGNING_IN), at_most=1)
            promise("auth-service killed: back", fault.back_after(*SIGNING_IN, "auth:check"), at_most=5)


@pytest.mark.full
def test_nobody_with_a_token_notices_that_auth_service_froze(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("auth-service paused") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen,
                "paused",
                lambda: parts.pause("auth-service"),
                lambda: parts.resume("auth-service"),
                lasts=6,
            )
            said = {
                one.status
                for one in fault.failures("auth:sign-in", "auth:refresh", "auth:check")
                if one.status
            }
            assert said <= {503, 504}
            promise("auth-service paused: API errors", len(fault.failures(*API)), at_most=0, unit="")
            promise("auth-service paused: sign-in told so", fault.slowest(*SIGNING_IN), at_most=2.6)
            promise("auth-service paused: back", fault.back_after(*SIGNING_IN, "auth:check"), at_most=5)


def test_a_gateway_that_starts_before_auth_service_passes_nothing_unchecked(
    parts: Compose, people: People, person: Person, promise: PromiseFixture, rounds: int
) -> None:
    api = people.api(person)

    def ask() -> int:
        try:
            return api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code
        except httpx.TransportError:
            return 0

    for _ in range(rounds):
        parts.stop_part("gateway")
        parts.kill("auth-service")
        parts.start_again("gateway")
        until(ask, 15, "the gateway answers", every=0.02)
        asked = [ask() for _ in range(20)]
        assert set(asked) == {503}
        assert not parts.ready("gateway")
        assert parts.running("gateway")
        parts.start_again("auth-service")
        parts.wait_ready("auth-service", 60)
        back = until(lambda: ask() == 200, 15, "the API served", every=0.02)
        promise("gateway starts with auth-service down: served after it is back", back, at_most=3)


def test_a_killed_gateway_is_back_at_once_with_keys_and_revocations(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("gateway killed") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "killed", lambda: parts.kill("gateway"), lambda: parts.start_again("gateway"), lasts=1
            )
            promise("gateway killed: serving again", fault.back_after(*API), at_most=5)


def test_a_dead_user_service_is_said_at_once_and_forgotten_at_once(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int, full: bool
) -> None:
    with steady("user-service killed") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "killed", lambda: parts.kill("user-service"), lambda: parts.start_again("user-service")
            )
            assert {one.status for one in fault.failures(*API) if one.status} <= {502, 503}
            promise(
                "user-service killed: token checks failed",
                len(fault.failures("auth:check")),
                at_most=0,
                unit="",
            )
            if full:  # a machine shared with other work cannot tell milliseconds
                promise("user-service killed: 503 while open", fault.slowest("read", after=2), at_most=0.05)
            promise("user-service killed: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


@pytest.mark.full
def test_a_frozen_user_service_holds_callers_for_the_first_byte_and_no_longer(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("user-service paused") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen,
                "paused",
                lambda: parts.pause("user-service"),
                lambda: parts.resume("user-service"),
                lasts=8,
            )
            assert {one.status for one in fault.failures(*API) if one.status} <= {503, 504}
            promise("user-service paused: 504", fault.slowest(*API), at_most=5.2)
            promise("user-service paused: 503 while open", fault.slowest("read", after=6), at_most=0.05)
            promise(
                "user-service paused: token checks failed",
                len(fault.failures("auth:check")),
                at_most=0,
                unit="",
            )
            promise("user-service paused: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


@pytest.mark.full
def test_a_gateway_that_reads_its_settings_again_refuses_nobody(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("gateway told to start new workers (HUP)") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, "HUP", lambda: parts.signal("gateway", "HUP"), lambda: None, lasts=8, settles=2
            )
            assert not fault.failures()
    promise("gateway HUP: failed", len(seen.failures()), at_most=0, unit="")


@pytest.mark.full
def test_two_replicas_are_replaced_one_after_the_other_and_nobody_notices(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    for part in ("auth-service", "user-service"):
        parts.scale(part, 2)
    try:
        time.sleep(3)  # the gateway asks for names again
        with steady("rolling restart of two replicas") as seen:
            for _ in range(rounds):
                for part in ("auth-service", "user-service"):
                    with seen.span(part):
                        longest = parts.replace_one_by_one(part)
                    promise("rolling restart: exit", longest, at_most=30)
            time.sleep(2)
        promise("rolling restart: failed", len(seen.failures()), at_most=0, unit="")
    finally:
        for part in ("auth-service", "user-service"):
            parts.scale(part, 1)
