"""The life of a session as a consumer sees it."""

from __future__ import annotations

import pytest

from gatehouse_e2e.api import Api, Person, Refused
from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.login

# The promise for a revocation to reach every verifier is 1 s at most.
REVOKED_WITHIN = 1.0


def test_register_sign_in_read_refresh_sign_out_refused(api: Api, people: People) -> None:
    somebody = people.stranger()

    registered = api.register(somebody.email, somebody.name, somebody.password)
    assert registered["email"] == somebody.email
    assert somebody.password not in str(registered)

    first = api.sign_in(somebody.email, somebody.password)
    assert api.me(first).json()["id"] == registered["id"]

    second = api.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert api.me(second).json()["name"] == somebody.name

    api.sign_out(second.refresh_token)

    def refused() -> bool:
        try:
            api.me(second)
        except Refused as refusal:
            assert (refusal.status, refusal.code) == (401, "session_revoked")
            return True
        return False

    until(refused, REVOKED_WITHIN, "the access token refused after sign-out", every=0.01)
    with pytest.raises(Refused) as refusal:
        api.refresh(second.refresh_token)
    assert (refusal.value.status, refusal.value.error) == (400, "invalid_grant")


def test_signing_out_one_session_leaves_the_other_alone(people: People) -> None:
    somebody = people.signed_in()
    api = people.api(somebody)
    elsewhere = api.sign_in(somebody.email, somebody.password)
    api.sign_out(elsewhere.refresh_token)
    until(lambda: is_refused(api, elsewhere.bearer), REVOKED_WITHIN, "the ended session refused")
    assert api.me(somebody.tokens).json()["id"] == somebody.id


def test_revoking_an_access_token_ends_its_session(people: People, person: Person) -> None:
    api = people.api(person)
    api.sign_out(person.tokens.access_token)
    until(lambda: is_refused(api, person.tokens.bearer), REVOKED_WITHIN, "the session refused")


def test_a_lost_answer_to_a_refresh_is_asked_for_again(people: People, person: Person) -> None:
    api = people.api(person)
    lost = api.refresh(person.tokens.refresh_token)
    again = api.refresh(person.tokens.refresh_token)
    assert again.refresh_token == lost.refresh_token
    assert api.me(again).json()["id"] == person.id


def test_a_refresh_token_used_long_ago_ends_the_session(people: People, person: Person) -> None:
    api = people.api(person)
    second = api.refresh(person.tokens.refresh_token)
    third = api.refresh(second.refresh_token)
    with pytest.raises(Refused) as refusal:
        api.refresh(person.tokens.refresh_token)
    assert refusal.value.error == "invalid_grant"
    until(lambda: is_refused(api, third.bearer), REVOKED_WITHIN, "the reused session refused")


def test_a_wrong_password_and_an_unknown_address_are_told_apart_by_nothing(people: People) -> None:
    somebody = people.registered()
    nobody = people.stranger()
    answers = []
    for email in (somebody.email, nobody.email):
        with pytest.raises(Refused) as refusal:
            people.api(somebody).sign_in(email, nobody.password)
        answers.append((refusal.value.status, refusal.value.error, refusal.value.body["error_description"]))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (400, "invalid_grant")


def test_capitals_in_the_address_are_the_same_person(people: People) -> None:
    somebody = people.registered()
    api = people.api(somebody)
    assert api.me(api.sign_in(somebody.email.upper(), somebody.password)).json()["email"] == somebody.email


def test_sessions_are_listed_and_ended(people: People, person: Person) -> None:
    api = people.api(person)
    other = api.sign_in(person.email, person.password)
    listed = api.sessions(person.tokens)
    assert len(listed) == 2
    [current] = [one for one in listed if one["current"]]
    [foreign] = [one for one in listed if not one["current"]]
    ended = api.http.delete(f"/auth/sessions/{foreign['id']}", headers=person.tokens.bearer)
    assert ended.is_success
    until(lambda: is_refused(api, other.bearer), REVOKED_WITHIN, "the other session refused")
    assert [one["id"] for one in api.sessions(person.tokens)] == [current["id"]]


def test_all_other_sessions_are_ended_and_the_one_that_asks_is_spared(people: People, person: Person) -> None:
    api = people.api(person)
    elsewhere = api.sign_in(person.email, person.password)
    ended = api.http.delete("/auth/sessions", params={"keep": "current"}, headers=person.tokens.bearer)
    assert ended.status_code == 204
    until(lambda: is_refused(api, elsewhere.bearer), REVOKED_WITHIN, "the other session refused")
    assert api.me(api.refresh(person.tokens.refresh_token)).json()["id"] == person.id


def test_every_session_is_ended_at_once(people: People, person: Person) -> None:
    api = people.api(person)
    others = [api.sign_in(person.email, person.password) for _ in range(2)]
    assert api.http.delete("/auth/sessions", headers=person.tokens.bearer).status_code == 204
    for tokens in (person.tokens, *others):
        until(lambda tokens=tokens: is_refused(api, tokens.bearer), REVOKED_WITHIN, "every session refused")  # type: ignore[misc]
        with pytest.raises(Refused) as refusal:
            api.refresh(tokens.refresh_token)
        assert refusal.value.error == "invalid_grant"
    people.sign_in(person)
    assert len(api.sessions(person.tokens)) == 1


def is_refused(api: Api, bearer: dict[str, str]) -> bool:
    return api.http.get("/v1/users/me", headers=bearer).status_code == 401
