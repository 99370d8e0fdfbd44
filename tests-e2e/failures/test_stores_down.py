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
from gatehouse_e2e.history import Exchange, History
from gatehouse_e2e.load import Read, ReadRefused, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import LoadFixture, PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, Fault, added, many_reads, suffer
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.breaks

# Every connection of user-service's but the one that does it; says how many there were.
KILL_CONNECTIONS = """
mysql() {
  MYSQL_PWD="$(cat /run/secrets/root_password)" command mysql --user=root --batch --skip-column-names "$@"
}
ids=$(mysql --execute="SELECT ID FROM performance_schema.processlist WHERE USER = 'users' AND ID <> CONNECTION_ID()")
for id in $ids; do mysql --execute="KILL $id"; done
echo $ids | wc -w
"""
# Where milliseconds are judged. Of two bystanders one seems to be slower than ADDED, measured so, once in seventy times.
PAIRS = 12
MEASURED_SECONDS = 6
ADDED = 0.005
KILLED_OR_PAUSED = pytest.mark.parametrize("how", ["killed", pytest.param("paused", marks=pytest.mark.full)])


@KILLED_OR_PAUSED
def test_without_mysql_everybody_is_told_soon_and_tokens_are_still_checked(
    how: str, parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    begin, mend = parts.fault(how, "mysql")
    with steady(f"MySQL {how}") as seen:
        for _ in range(rounds):
            fault = suffer(
                seen, how, begin, partial(start_mysql, parts) if how == "killed" else mend, lasts=5
            )
            assert {one.status for one in fault.failures(*API) if one.status} <= {503}
            promise(f"MySQL {how}: 503", fault.slowest(*API), at_most=3)
            promise(
                f"MySQL {how}: token checks failed", len(fault.failures("auth:check")), at_most=0, unit=""
            )
            promise(f"MySQL {how}: back", fault.back_after(*API, *SIGNING_IN), at_most=5)


def test_a_registration_cut_off_by_mysqls_death_is_made_once_when_repeated(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    strangers = [people.stranger() for _ in range(1000 if full else 24)]
    kills = 6 if full else 1
    made = itertools.count()
    due = threading.Event()

    def register(person: Person) -> str:
        registered = registered_at_last(people, person)
        if next(made) % (len(strangers) // (kills + 1)) == 1:
            due.set()
        return registered

    with steady("MySQL killed at COMMIT") as seen, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(register, person) for person in strangers]
        for _ in range(kills):
            assert due.wait(120)
            due.clear()
            with seen.span("killed"):
                parts.kill("mysql")
                assert not all(one.done() for one in asked), "the kill met registrations under way"
                start_mysql(parts)
        ids = [one.result() for one in asked]
        again = list(pool.map(partial(registered_at_last, people), strangers))
        promise("MySQL killed at COMMIT: kills", kills, at_least=5 if full else 1, unit="")
        promise("MySQL killed at COMMIT: registrations", len(set(ids)), at_least=len(strangers), unit="")
        promise(
            "MySQL killed at COMMIT: duplicates",
            sum(a != b for a, b in zip(ids, again, strict=True)),
            at_most=0,
            unit="",
        )
        for person, made_as in zip(strangers[::8], ids[::8], strict=True):
            tokens = people.api(person).sign_in(person.email, person.password)
            assert people.api(person).me(tokens).json()["id"] == made_as


def test_connections_that_died_in_the_pool_are_noticed_before_anybody_is_given_one(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    person = people.signed_in()
    with steady("MySQL's connections killed") as seen, ThreadPoolExecutor(20) as pool:
        for _ in range(rounds):
            time.sleep(1)
            with seen.span("killed"):
                assert int(parts.execute("mysql", "sh", "-c", KILL_CONNECTIONS)) > 0
            asked = list(pool.map(lambda _: status(people, person), range(20)))
            promise("MySQL's connections killed: served of 20", asked.count(200), at_least=20, unit="")


@KILLED_OR_PAUSED
def test_the_api_works_from_memory_without_redis(
    how: str,
    parts: Compose,
    steady: SteadyFixture,
    people: People,
    promise: PromiseFixture,
    full: bool,
) -> None:
    begin, mend = parts.fault(how, "redis")

    def round_of(seen: History) -> Fault:
        leaver = people.signed_in()
        begun = partial(without_redis, begin, people, leaver)
        fault = suffer(seen, f"Redis {how}", begun, mend, lasts=MEASURED_SECONDS)
        promise(f"Redis {how}: API errors", len(fault.failures(*API)), at_most=0, unit="")
        promise(f"Redis {how}: back", fault.back_after(*SIGNING_IN), at_most=5)
        return fault

    with steady(f"Redis {how}", *(many_reads(people) if full else ())) as seen:
        if full:  # a machine shared with other work cannot tell milliseconds
            promise(
                f"Redis {how}: added p99, over a bystander {how}",
                added_p99(how, parts, seen, round_of),
                at_most=ADDED,
            )
        else:
            round_of(seen)


@pytest.mark.full
def test_after_a_minute_without_redis_nobody_passes_unchecked(
    parts: Compose, people: People, load: LoadFixture, promise: PromiseFixture
) -> None:
    readers = [people.signed_in() for _ in range(4)]
    with load(Share(20, Read(readers)), title="Redis paused for over a minute").running() as seen:
        time.sleep(1)
        with seen.span("paused"):
            paused = seen.now()
            parts.pause("redis")
            until(partial(seen.failures, since=paused), 75, "authenticated routes answer 503", every=0.2)
            time.sleep(3)
            assert people.api(readers[0]).http.get("/docs").status_code == 200
            parts.resume("redis")
        resumed = seen.now()
        until(partial(seen.calm, 2), 30, "the API is back")
    refused = seen.failures(before=resumed)
    assert {(one.status, one.code) for one in refused} == {(503, "revocations_stale")}
    unchecked = seen.select(
        since=refused[0].planned, before=resumed, where=lambda one: one.outcome == "served"
    )
    promise("Redis paused for over a minute: 503 from then on", refused[0].planned - paused, at_most=61.5)
    promise("Redis paused for over a minute: passed unchecked", len(unchecked), at_most=0, unit="")
    promise("Redis paused for over a minute: back", seen.back_after(since=resumed), at_most=5)


@pytest.mark.full
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_limits_fall_back_to_each_gateways_own_while_their_redis_is_gone(
    how: str, parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    def round_of(seen: History) -> Fault:
        what = f"limits' Redis {how}"
        fault = suffer(seen, what, *parts.fault(how, "redis-limits"), lasts=MEASURED_SECONDS)
        promise(f"{what}: API errors", len(fault.failures(*API)), at_most=0, unit="")
        return fault

    with steady(f"limits' Redis {how}", *many_reads(people)) as seen:
        promise(
            f"limits' Redis {how}: added p99, over a bystander {how}",
            added_p99(how, parts, seen, round_of),
            at_most=ADDED,
        )


def test_an_empty_redis_is_a_new_epoch_whose_keys_no_old_token_has(
    parts: Compose, people: People, load: LoadFixture, promise: PromiseFixture, rounds: int
) -> None:
    revoked = ReadRefused("session ended", [signed_out(people) for _ in range(2)])
    for number in range(rounds):
        innocent = [people.signed_in() for _ in range(2)]
        older = ReadRefused("older token", innocent, may_succeed=None)
        with load(
            Share(20, older), Share(20, revoked), title=f"Redis comes back empty, {number + 1}"
        ).running() as seen:
            time.sleep(1)
            with seen.span("killed and emptied"):
                empty_redis(parts)
            back = seen.now()
            refused = partial(seen.select, "read (older token)", since=back, where=is_401)
            until(refused, 20, "older tokens refused")
            time.sleep(2)
            again = seen.now()  # from here on they have new tokens
            until(partial(signs_in, people, innocent[0]), 20, "people sign in again")
        passed = seen.select(
            "read (older token)", since=back, before=again, where=lambda one: one.status != 401
        )
        promise(
            "Redis empty after restart: older tokens refused",
            max((one.planned - back for one in passed), default=0),
            at_most=2,
        )
        promise(
            "Redis empty after restart: revoked tokens accepted",
            len(seen.select("read (session ended)", where=lambda one: one.outcome == "served")),
            at_most=0,
            unit="",
        )


def test_an_empty_redis_without_auth_service_lets_nobody_pass(
    parts: Compose, people: People, load: LoadFixture, promise: PromiseFixture
) -> None:
    innocent = [people.signed_in() for _ in range(2)]
    older = ReadRefused("older token", innocent, may_succeed=None)
    with load(Share(40, older), title="Redis comes back empty without auth-service").running() as seen:
        time.sleep(1)
        with seen.span("auth-service killed, Redis emptied"):
            parts.kill("auth-service")
            empty_redis(parts)
            until(partial(seen.select, where=lambda one: one.status == 503), 10, "routes answer 503")
            emptied = seen.now()
            time.sleep(3)
            parts.wait_ready("gateway", 20)
            ended = seen.now()
            parts.start_again("auth-service")
        until(partial(signs_in, people, innocent[0]), 20, "people sign in again")
    passed = seen.select(since=emptied, before=ended, where=lambda one: one.status != 503)
    promise("Redis empty while auth-service is down: passed unchecked", len(passed), at_most=0, unit="")


def test_a_gateway_that_starts_without_redis_lets_nobody_pass(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    with steady("gateway starts with Redis down") as seen:
        time.sleep(1)
        with seen.span("Redis down"):
            parts.kill("redis")
            parts.kill("gateway")
            parts.start_again("gateway")
            started = seen.now()
            until(partial(seen.select, since=started, where=lambda one: one.status > 0), 15, "answers")
            time.sleep(2)
            assert people.api(people.stranger()).http.get("/docs").status_code == 200
            assert not parts.ready("gateway")
            ended = seen.now()
            parts.start_again("redis")
        until(partial(seen.calm, 2.5), 30, "the API is served", every=0.1)
    passed = seen.select("read", since=started, before=ended, where=lambda one: one.status not in (0, 503))
    promise("gateway starts with Redis down: passed unchecked", len(passed), at_most=0, unit="")
    promise("gateway starts with Redis down: back", seen.back_after(*API, since=ended), at_most=5)


def added_p99(how: str, parts: Compose, seen: History, round_of: Callable[[History], Fault]) -> float:
    """What the fault itself added: each follows the same done to the bystander."""
    controls: list[Fault] = []
    faults: list[Fault] = []
    for _ in range(PAIRS):
        bystander = parts.fault(how, "bystander")
        controls.append(suffer(seen, f"bystander {how}", *bystander, lasts=MEASURED_SECONDS))
        faults.append(round_of(seen))
    return added(0.99, faults, controls, "read")


def empty_redis(parts: Compose) -> None:
    """As after the loss of its disk."""
    parts.kill("redis")
    parts.empty_volume("redis-data")
    parts.start_again("redis")


def is_401(one: Exchange) -> bool:
    return one.status == 401


def signed_out(people: People) -> Person:
    person = people.signed_in()
    people.api(person).sign_out(person.tokens.refresh_token)
    until(lambda: status(people, person) == 401, 5, "signed out")
    return person


def start_mysql(parts: Compose) -> None:
    """Back is MySQL when it accepts connections: recovering from the crash is its own business."""
    parts.start_again("mysql")
    started = parts.started("mysql")
    until(
        lambda: "ready for connections" in parts.log("mysql", since=started),
        60,
        "MySQL accepts connections",
        every=0.2,
    )


def registered_at_last(people: People, person: Person) -> str:
    """The id: asked with one Idempotency-Key until there is an answer."""
    body = {"email": person.email, "name": person.name, "password": person.password}
    key = {"Idempotency-Key": f"e2e-{person.email}"}
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        try:
            answer = people.api(person).http.post("/v1/users", json=body, headers=key)
        except httpx.TransportError:
            continue
        if answer.status_code == 201:
            return str(answer.json()["id"])
        if answer.status_code not in (409, 429, 502, 503, 504) or answer.json()["code"] == "email_taken":
            raise Refused(answer)
        time.sleep(0.3)
    raise AssertionError(f"{person.email} is not registered after two minutes")


def without_redis(begin: Callable[[], None], people: People, person: Person) -> None:
    """A sign-out that is not durable is not acknowledged."""
    begin()
    answer = people.api(person).http.post("/auth/revoke", data={"token": person.tokens.refresh_token})
    assert answer.status_code in (503, 504), answer.text


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
