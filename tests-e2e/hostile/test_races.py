"""Two things at once: whatever their order was, what ended is over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from gatehouse_e2e.api import Api, Person, Tokens
from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

# Of a session's end, and of a change in user-service.
SESSION_SECONDS, CHANGE_SECONDS = 1.0, 3.0


def sign_out(api: Api, person: Person) -> httpx.Response:
    return api.http.post("/auth/revoke", data={"token": person.tokens.refresh_token})


def end_every_session(api: Api, person: Person) -> httpx.Response:
    return api.http.delete("/auth/sessions", headers=person.tokens.bearer)


@pytest.mark.parametrize("end", [sign_out, end_every_session])
def test_a_refresh_that_meets_the_sessions_end_leaves_no_token_that_works(
    end: Callable[[Api, Person], httpx.Response], people: People, full: bool
) -> None:
    person = people.registered()
    meets(people, person, partial(end, people.api(person), person), 200 if full else 20, SESSION_SECONDS)


def test_a_refresh_that_meets_a_disabling_leaves_no_token_that_works(
    people: People, admin: Person, full: bool
) -> None:
    person, http = people.registered(), people.api(admin).http

    def disable() -> httpx.Response:
        return http.post(f"/v1/users/{person.id}/disable", headers=admin.tokens.bearer)

    def enable() -> None:
        admin.tokens = people.api(admin).refresh(admin.tokens.refresh_token)  # a long run outlives a token
        http.post(f"/v1/users/{person.id}/enable", headers=admin.tokens.bearer).raise_for_status()

    meets(people, person, disable, 200 if full else 10, CHANGE_SECONDS, enable)


def meets(
    people: People,
    person: Person,
    end: Callable[[], httpx.Response],
    rounds: int,
    within: float,
    again: Callable[[], None] = lambda: None,
) -> None:
    with ThreadPoolExecutor(2) as pool, Api(people.url, people.address()) as elsewhere:
        for number in range(rounds):
            if number:
                again()
            people.sign_in(person)
            before = person.tokens
            renew = partial(elsewhere.http.post, "/auth/token", data=renewal(before.refresh_token))
            order = (renew, end) if number % 2 else (end, renew)
            asked = [pool.submit(one) for one in order]
            renewed, ended = (one.result() for one in (asked if number % 2 else reversed(asked)))
            assert ended.is_success, ended.text
            tokens = [before]
            if renewed.is_success:
                body = renewed.json()
                tokens.append(Tokens(body["access_token"], body["refresh_token"], body["expires_in"], ""))
            else:
                assert (renewed.status_code, renewed.json()["error"]) == (400, "invalid_grant")
            for one in tokens:
                until(
                    partial(refused, elsewhere, one), within, "every token of the round refused", every=0.01
                )
                again_asked = elsewhere.http.post("/auth/token", data=renewal(one.refresh_token))
                assert (again_asked.status_code, again_asked.json()["error"]) == (400, "invalid_grant")
            assert all(refused(elsewhere, one) for one in tokens)


def renewal(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token}


def refused(api: Api, tokens: Tokens) -> bool:
    return api.http.get("/v1/users/me", headers=tokens.bearer).status_code == 401
