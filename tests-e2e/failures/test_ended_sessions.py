"""Whoever was told that a session has ended cannot use it any more at the gateway that told them; elsewhere soon."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from gatehouse_e2e.api import Api, Person, Tokens
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.systems import System

AT_ONCE = 4  # people who sign out, or change their password, side by side
SESSIONS = 20  # of one person at a time; at most 50 live at once
# A caller may change the password five times a minute; of those a worker may have to ask for some first.
CHANGES = 2
READS = 2  # after each end, on connections of their own
ELSEWHERE = "signed out, read through another gateway: refused after"


class Reader:
    """Reads a person's record on a connection of its own; counts what was served although it should not be."""

    def __init__(self, url: str, person: Person, *, own_address: bool = True) -> None:
        self._api = Api(url, person.address if own_address else None)

    def serves(self, tokens: Tokens) -> bool:
        answer = self._api.http.get("/v1/users/me", headers=tokens.bearer)
        assert answer.status_code in (200, 401, 503), answer.text
        return answer.status_code == 200

    def close(self) -> None:
        self._api.close()


@contextmanager
def readers(url: str, person: Person, count: int) -> Iterator[list[Reader]]:
    opened = [Reader(url, person) for _ in range(count)]
    try:
        yield opened
    finally:
        for reader in opened:
            reader.close()


def sessions_of(people: People, person: Person, count: int) -> list[Tokens]:
    api = people.api(person)
    return [people.patiently(lambda: api.sign_in(person.email, person.password)) for _ in range(count)]


def signs_out(people: People, url: str, count: int) -> int:
    """Somebody new ends so many sessions; how often one was served to the read that came next."""
    person, served = people.registered(), 0
    with readers(url, person, READS) as reading:
        while count > 0:
            for tokens in sessions_of(people, person, min(count, SESSIONS)):
                count -= 1
                assert all(reader.serves(tokens) for reader in reading), "good until then"
                people.api(person).sign_out(tokens.refresh_token)
                served += sum(reader.serves(tokens) for reader in reading)
    return served


def changes_password(people: People, url: str, count: int) -> int:
    """The same with the password, which ends every session."""
    person, served = people.registered(), 0
    api = people.api(person)
    with readers(url, person, READS) as reading:
        for _ in range(count):
            [tokens] = sessions_of(people, person, 1)
            assert all(reader.serves(tokens) for reader in reading), "good until then"
            new = secrets.token_urlsafe(20)
            people.patiently(partial(api.change_password, tokens, person.password, new))
            served += sum(reader.serves(tokens) for reader in reading)
            person.password = new
    return served


def side_by_side(
    ends: Callable[[People, str, int], int], people: People, url: str, count: int, each: int
) -> int:
    """How often somebody was served, of `count` ends by people who make `each` of them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(lambda _: ends(people, url, each), range(count // each)))


def test_the_read_right_after_a_sign_out_is_refused(
    system: System, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    count = 10_000 if full else 200
    with steady("sign-outs, each followed by a read") as seen, seen.span("sign-outs"):
        served = side_by_side(signs_out, people, system.url, count, 500 if full else 50)
    promise("signed out, read at once through the same gateway: served", served, at_most=0, unit="")
    promise("signed out, read at once through the same gateway: sign-outs", count, at_least=count, unit="")


def test_the_read_right_after_a_change_of_password_is_refused(
    system: System, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    count = 1000 if full else 40
    with steady("changes of password, each followed by a read") as seen, seen.span("changes"):
        served = side_by_side(changes_password, people, system.url, count, CHANGES)
    promise("password changed, read at once through the same gateway: served", served, at_most=0, unit="")
    promise(
        "password changed, read at once through the same gateway: changes", count, at_least=count, unit=""
    )


@pytest.mark.breaks
@pytest.mark.full
def test_nor_is_it_served_by_another_worker_of_the_same_gateway(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    parts.compose("up", "--no-deps", "--wait", "gateway", GATEWAY_WORKERS="2")
    try:
        with steady("sign-outs, two workers") as seen, seen.span("sign-outs"):
            served = side_by_side(signs_out, people, parts.url, 2000, 50)
            served += side_by_side(changes_password, people, parts.url, 200, CHANGES)
    finally:
        parts.compose("up", "--no-deps", "--wait", "gateway")
    promise(
        "session ended, read at once through a gateway of two workers: served", served, at_most=0, unit=""
    )


def test_another_gateway_refuses_soon_after(
    system: System, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    if system.plain_url is None:
        pytest.skip(f"asks a second gateway, and there is none beside {system.url}")
    waits: list[float] = []
    with steady("sign-outs, read elsewhere") as seen, seen.span("sign-outs"):
        for _ in range(50 if full else 2):
            person = people.registered()
            elsewhere = Reader(system.plain_url, person, own_address=False)
            for tokens in sessions_of(people, person, SESSIONS):
                assert elsewhere.serves(tokens)
                people.api(person).sign_out(tokens.refresh_token)
                told = time.monotonic()
                while elsewhere.serves(tokens):
                    assert time.monotonic() - told < 10
                waits.append(time.monotonic() - told)
            elsewhere.close()
    waits.sort()
    promise(f"{ELSEWHERE}, p99", waits[int(0.99 * len(waits))], at_most=0.25)
    promise(f"{ELSEWHERE}, longest", waits[-1], at_most=1)
