"""What happens to sessions when clients repeat, race and lose answers, and when strangers try to end or take them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from gatehouse_e2e.api import Person, Refused, Tokens
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture
from gatehouse_e2e.waiting import until

# The time at which the present refresh token was made, moved back in the store: waiting an hour is no test.
MOVE_BACK = """
import os, sys, redis
store = redis.Redis.from_url(
    os.environ["REDIS_URL"], username="auth", password=open("/run/secrets/redis_password").read().strip()
)
for sid in sys.stdin.read().split():
    store.hincrby("auth:session:" + sid, "made", -1000 * int(sys.argv[1]))
"""


def test_fifty_refreshes_at_once_with_one_token_have_one_successor(
    people: People, promise: PromiseFixture, rounds: int
) -> None:
    for _ in range(rounds):
        person = people.signed_in()
        old = person.tokens.refresh_token
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _, p=person, old=old: refresh(people, p, old), range(50)))
        assert {answer.status_code for answer in answers} <= {200, 400, 429}
        successors = {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200}
        promise("50 refreshes at once: live tokens", len(successors), at_most=1, unit="")
        promise(
            "50 refreshes at once: 5xx", sum(one.status_code >= 500 for one in answers), at_most=0, unit=""
        )
        [successor] = successors
        assert refresh(people, person, successor).status_code == 200


def test_a_lost_answer_ends_no_innocent_session_however_late_the_client_asks_again(
    parts: Compose, people: People, promise: PromiseFixture, full: bool
) -> None:
    with ThreadPoolExecutor(2) as pool:
        everybody = list(pool.map(lambda _: people.signed_in(), range(168 if full else 6)))
    ended = 0
    for seconds in (5, 60, 3600):
        for at_once in (1, 2):
            kept = [one.tokens.refresh_token for one in everybody]
            for person, old in zip(everybody, kept, strict=True):
                assert refresh(people, person, old).status_code == 200  # an answer that never arrived
            move_back(parts, kept, seconds)
            for person, old in zip(everybody, kept, strict=True):
                ended += not asks_again(people, person, old, at_once)
    promise("answer to a refresh lost: innocent sessions ended", ended, at_most=0, unit="")
    for person in everybody:
        assert people.api(person).me(person.tokens).json()["id"] == person.id


@pytest.mark.breaks
def test_a_refresh_while_user_service_is_down_costs_nobody_the_session(
    parts: Compose, people: People, promise: PromiseFixture, full: bool
) -> None:
    everybody = [people.signed_in() for _ in range(20 if full else 5)]
    parts.kill("user-service")
    for person in everybody:
        answer = refresh(people, person, person.tokens.refresh_token)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    parts.start_again("user-service")
    parts.wait_ready("user-service", 20)
    ended = 0
    for person in everybody:
        until(partial(renewed, people, person), 10, "the session is renewed")
        ended += people.api(person).http.get("/v1/users/me", headers=person.tokens.bearer).status_code != 200
    promise("refresh with user-service down: innocent sessions ended", ended, at_most=0, unit="")


def test_a_forged_refresh_token_with_a_real_session_changes_nothing(
    people: People, promise: PromiseFixture, rounds: int
) -> None:
    ended = 0
    for _ in range(rounds):
        person = people.signed_in()
        sid, generation, attempt, mac = person.tokens.refresh_token.split(".")
        forged = [
            f"{sid}.{generation}.{attempt}.{mac[::-1]}",
            f"{sid}.{int(generation) + 1}.{attempt}.{mac}",
            f"{sid}.{generation}.{int(attempt) + 1}.{mac}",
            f"{sid}.0{generation}.{attempt}.{mac}",
            f"{sid}.-1.{attempt}.{mac}",
            f"{sid}.{generation}.{attempt}.",
            f"{sid}.{generation}.{attempt}",
            f"{sid}.{generation}.{attempt}.{mac}.{mac}",
            sid,
        ]
        for token in forged:
            answer = refresh(people, person, token)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), token
            assert people.api(person).http.post("/auth/revoke", data={"token": token}).status_code < 500
        ended += not renewed(people, person)
        assert people.api(person).me(person.tokens).json()["id"] == person.id
    promise("forged refresh token with a real sid: sessions ended", ended, at_most=0, unit="")


def test_an_attacker_who_guesses_locks_nobody_out_of_a_known_device(
    people: People, promise: PromiseFixture, full: bool
) -> None:
    victim = people.registered()
    form = {"grant_type": "password", "username": victim.email, "password": victim.password}
    device = people.api(victim).http.post("/auth/token", data=form).headers["x-device-token"]
    stranger = people.stranger()
    guesses = []
    for _ in range(60):
        guess = form | {"password": stranger.password}
        headers = {"X-Forwarded-For": people.address()}
        guesses.append(people.api(stranger).http.post("/auth/token", data=guess, headers=headers).status_code)
    assert guesses[-1] == 429
    tries = 20 if full else 10
    served = 0
    for _ in range(tries):
        answer = people.api(victim).http.post("/auth/token", data=form, headers={"X-Device-Token": device})
        served += answer.status_code == 200
    promise(
        "attacker locks a victim out: the victim's sign-ins", 100 * served / tries, at_least=100, unit="%"
    )


def refresh(people: People, person: Person, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return people.api(person).http.post("/auth/token", data=form)


def renewed(people: People, person: Person) -> bool:
    try:
        person.tokens = people.api(person).refresh(person.tokens.refresh_token)
    except Refused as refused:
        assert refused.status in (503, 504), refused
        return False
    return True


def asks_again(people: People, person: Person, token: str, at_once: int) -> bool:
    """Present the token of the lost answer again, as often at once as told; True if the session lives on."""
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(lambda _: refresh(people, person, token), range(at_once)))
    served = [answer.json() for answer in answers if answer.status_code == 200]
    if len(served) != at_once:
        return False
    person.tokens = Tokens(served[0]["access_token"], served[0]["refresh_token"], served[0]["expires_in"], "")
    return True


def move_back(parts: Compose, tokens: list[str], seconds: int) -> None:
    sids = "\n".join(token.partition(".")[0] for token in tokens)
    parts.execute("auth-service", "python", "-c", MOVE_BACK, str(seconds), stdin=sids)
