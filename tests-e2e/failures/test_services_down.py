"""A service is killed, frozen or not there yet: who notices, what they are told, how soon all is well again."""

from __future__ import annotations

import time
from functools import partial

import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.load import Read, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, suffer
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.breaks

KILLED_OR_PAUSED = pytest.mark.parametrize("how", ["killed", pytest.param("paused", marks=pytest.mark.full)])


@KILLED_OR_PAUSED
def test_nobody_with_a_token_notices_that_auth_service_is_gone(
    how: str, parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    told_within = {"killed": 1, "paused": 2.6}[how]
    with steady(f"auth-service {how}") as seen:
        for _ in range(rounds):
            fault = suffer(seen, how, *parts.fault(how, "auth-service"), lasts=5)
            told = [one for one in fault.failures(*SIGNING_IN, "auth:check", after=1) if one.status]
            assert told
            assert {one.status for one in told} <= ({503} if how == "killed" else {503, 504})
            assert all(one.retry_after for one in told if one.status == 503)
            promise(f"auth-service {how}: API errors", len(fault.failures(*API)), at_most=0, unit="")
            promise(f"auth-service {how}: sign-in told so", fault.slowest(*SIGNING_IN), at_most=told_within)
            promise(f"auth-service {how}: back", fault.back_after(*SIGNING_IN, "auth:check"), at_most=5)


def test_a_gateway_that_starts_before_auth_service_passes_nothing_unchecked(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("gateway starts with auth-service down") as seen:
        ready_at = 0.0

        def auth_service_is_ready() -> bool:
            nonlocal ready_at
            ready_at = seen.now()
            return parts.ready("auth-service")

        for _ in range(rounds):
            time.sleep(1)
            with seen.span("neither"):
                parts.kill("auth-service")
                parts.kill("gateway")
            with seen.span("gateway alone"):
                parts.start_again("gateway")
                alone = seen.now()
                until(partial(seen.select, since=alone, where=lambda one: one.status > 0), 15, "answers")
                time.sleep(2)
                asked = seen.select("read", since=alone, where=lambda one: one.status > 0)
                assert {one.status for one in asked} == {503}
                assert not parts.ready("gateway")
                assert parts.running("gateway")
                parts.start_again("auth-service")
                until(auth_service_is_ready, 30, "auth-service ready", every=0.02)
            until(partial(seen.calm, 2.5), 30, "the API served")
            promise(
                "gateway starts with auth-service down: served after it is back",
                seen.back_after(*API, since=ready_at),
                at_most=3,
            )


def test_a_killed_gateway_is_back_at_once_with_keys_and_revocations(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("gateway killed") as seen:
        for _ in range(rounds):
            fault = suffer(seen, "killed", *parts.fault("killed", "gateway"), lasts=1)
            promise("gateway killed: serving again", fault.back_after(*API), at_most=5)


def test_front_that_died_is_back_within_seconds_and_no_gateway_restarts(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    """It owns the port: every connection ends with it, and docker starts it again."""
    started = parts.started("gateway")
    with steady("front died") as seen:
        for _ in range(rounds):
            fault = suffer(seen, "died", partial(parts.crash, "front"), lambda: None, lasts=0)
            back = seen.back_after(*API, *SIGNING_IN, since=fault.began)
            promise("front died: listening again", back, at_most=5)
    assert parts.started("gateway") == started
    assert parts.crashes("front") >= rounds, "it did die"
    assert not parts.crashes("gateway")


@pytest.mark.full
def test_front_that_is_frozen_is_missed_by_nobody(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("front paused") as seen:
        for _ in range(rounds):
            fault = suffer(seen, "paused", *parts.fault("paused", "front"))
            unanswered = [one for one in fault.failures() if not one.status]
            promise("front paused: unanswered", len(unanswered), at_most=0, unit="")


@KILLED_OR_PAUSED
def test_callers_of_a_user_service_that_is_gone_are_told_soon_and_then_at_once(
    how: str, parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int, full: bool
) -> None:
    statuses, told_within, lasts = {"killed": ({502, 503}, 1, 5), "paused": ({503, 504}, 5.2, 8)}[how]
    with steady(f"user-service {how}") as seen:
        for _ in range(rounds):
            fault = suffer(seen, how, *parts.fault(how, "user-service"), lasts=lasts)
            assert {one.status for one in fault.failures(*API) if one.status} <= statuses
            refused = [one for one in fault.failures("read") if one.code == "upstream_down"]
            assert len(refused) > 20, "the breaker opened"
            promise(f"user-service {how}: told so", fault.slowest(*API), at_most=told_within)
            promise(
                f"user-service {how}: token checks failed",
                len(fault.failures("auth:check")),
                at_most=0,
                unit="",
            )
            if full:  # a machine shared with other work cannot tell milliseconds
                opened = min(one.ended for one in refused)  # for those, too, who were waiting then
                at_once = max(one.seconds for one in refused if one.planned > opened)
                promise(f"user-service {how}: 503 while open", at_once, at_most=0.05)
            promise(f"user-service {how}: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


@pytest.mark.full
def test_a_gateway_that_reads_its_settings_again_refuses_nobody(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    readers = [people.signed_in() for _ in range(8)]
    with steady("gateway told to start new workers (HUP)", Share(80, Read(readers))) as seen:
        for _ in range(rounds):
            time.sleep(1)
            with seen.span("HUP"):
                parts.signal("gateway", "HUP")
                time.sleep(12)  # new workers come, the old ones drain and end
    promise("gateway HUP: failed", len(seen.failures()), at_most=0, unit="")


@pytest.mark.full
def test_two_replicas_are_replaced_one_after_the_other_and_nobody_notices(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    both = ("auth-service", "user-service")
    for part in both:
        parts.scale(part, 2)
    try:
        time.sleep(3)  # the gateway asks for names again
        readers = [people.signed_in() for _ in range(8)]
        with steady("rolling restart of two replicas", Share(80, Read(readers))) as seen:
            for _ in range(rounds):
                for part in both:
                    with seen.span(part):
                        longest = parts.replace_one_by_one(part)
                    promise("rolling restart: exit", longest, at_most=30)
            time.sleep(2)
        promise("rolling restart: failed", len(seen.failures()), at_most=0, unit="")
        promise("rolling restart: requests", len(seen.select()), at_least=10_000, unit="")
    finally:
        for part in both:
            parts.scale(part, 1)
