"""What happens to sessions when clients repeat, race and lose answers, and when strangers try to end or take them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from gatehouse_e2e.api import Person, Tokens
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.systems import System
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
# Seconds until the client asks again, and how often at once; 6 times 168 people are a thousand sessions.
LATER = [(seconds, at_once) for seconds in (5, 60, 3600) for at_once in (1, 2)]
ENDED = "answer to a refresh lost, asked again later: innocent sessions ended"


def test_fifty_refreshes_at_once_with_one_token_have_one_successor(
    people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    with steady("50 refreshes at once") as seen, ThreadPoolExecutor(50) as pool:
        for _ in range(rounds):
            person = people.signed_in()
            again = partial(refresh, people, person, person.tokens.refresh_token)
            with seen.span("50 at once"):
                answers = list(pool.map(lambda _, again=again: again(), range(50)))
            lost = [answer.json()["error"] for answer in answers if 400 <= answer.status_code < 500]
            assert set(lost) <= {"invalid_grant"}
            successors = {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200}
            failed = sum(answer.status_code >= 500 for answer in answers)
            promise("50 refreshes at once: live tokens", len(successors), at_most=1, unit="")
            promise("50 refreshes at once: 5xx", failed, at_most=0, unit="")
            [successor] = successors
            assert refresh(people, person, successor).status_code == 200


@pytest.mark.breaks
def test_a_lost_answer_ends_no_innocent_session_however_late_the_client_asks_again(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    """Asked again 5 s, a minute and an hour later, alone and twice at once, and also while user-service is down."""
    asked, ended = 0, 0
    with ThreadPoolExecutor(4) as pool, steady("answers to refreshes lost") as seen:
        everybody = list(pool.map(lambda _: people.signed_in(), range(168 if full else 6)))
        for seconds, at_once in LATER if full else LATER[::3]:
            kept = [person.tokens.refresh_token for person in everybody]
            lost = list(pool.map(partial(refresh, people), everybody, kept))
            assert {answer.status_code for answer in lost} == {200}
            move_back(parts, kept, seconds)
            with seen.span(f"{seconds} s later, {at_once} at once"):
                if seconds > 5:  # in less nothing restarts, and the same successor is given again
                    told_while_down(parts, pool, people, everybody)
                    until(partial(seen.calm, 1), 30, "user-service is back", every=0.1)
                lives = list(pool.map(partial(asks_again, people, at_once), everybody, kept))
            asked += len(lives)
            ended += lives.count(False)
        assert list(pool.map(partial(who, people), everybody)) == [person.id for person in everybody]
    promise(ENDED, ended, at_most=0, unit="")
    promise(
        "answer to a refresh lost, asked again later: answers lost",
        asked,
        at_least=1000 if full else 12,
        unit="",
    )


def test_a_forged_refresh_token_with_a_real_session_changes_nothing(
    people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    ended = 0
    with steady("forged refresh tokens") as seen:
        for _ in range(rounds):
            person = people.signed_in()
            with seen.span("forged"):
                for token in forged(person.tokens.refresh_token):
                    answer = refresh(people, person, token)
                    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), token
                    assert people.api(person).http.post("/auth/revoke", data={"token": token}).is_success
            ended += refresh(people, person, person.tokens.refresh_token).status_code != 200
            assert who(people, person) == person.id
    promise("forged refresh token with a real sid: sessions ended", ended, at_most=0, unit="")


def test_an_attacker_who_guesses_locks_nobody_out_of_a_known_device(
    system: System, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    if not system.believes_addresses:
        pytest.skip(f"guesses from many addresses, and {system.url} does not believe ours")
    victim, stranger = people.registered(), people.stranger()
    form = {"grant_type": "password", "username": victim.email, "password": victim.password}
    at_home, elsewhere = people.api(victim).http, people.api(stranger).http
    device = decided(at_home, form).headers["x-device-token"]
    tries = 20 if full else 10
    with steady("an attacker guesses") as seen, seen.span("guesses"):
        guesses = []
        for _ in range(60):
            guess, address = form | {"password": stranger.password}, {"X-Forwarded-For": people.address()}
            guesses.append(decided(elsewhere, guess, address))
        assert guesses[-1].status_code == 429
        answers = [decided(at_home, form, {"X-Device-Token": device}) for _ in range(tries)]
    served = sum(answer.status_code == 200 for answer in answers)
    promise(
        "attacker locks a victim out: the victim's sign-ins", 100 * served / tries, at_least=100, unit="%"
    )


def decided(
    http: httpx.Client, form: dict[str, str], headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer to a sign-in, which is asked again while the system is too busy for one."""
    for _ in range(20):
        answer = http.post("/auth/token", data=form, headers=headers)
        if answer.status_code < 500:
            break
        time.sleep(1)
    return answer


def forged(token: str) -> list[str]:
    """What somebody who saw the session's id, but has no token of it, may try."""
    sid, generation, attempt, mac = token.split(".")
    return [
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


def who(people: People, person: Person) -> str:
    return str(people.api(person).me(person.tokens).json()["id"])


def refresh(people: People, person: Person, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return people.api(person).http.post("/auth/token", data=form)


def told_while_down(
    parts: Compose, pool: ThreadPoolExecutor, people: People, everybody: list[Person]
) -> None:
    """Nobody's token is renewed, and everybody may try again."""
    kept = [person.tokens.refresh_token for person in everybody]
    parts.kill("user-service")
    told = list(pool.map(partial(refresh, people), everybody, kept))
    parts.start_again("user-service")
    assert {answer.status_code for answer in told} == {503}
    assert all(answer.headers["retry-after"] for answer in told)


def asks_again(people: People, at_once: int, person: Person, token: str) -> bool:
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
