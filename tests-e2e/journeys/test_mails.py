"""Journeys that lead through a person's mailbox."""

from __future__ import annotations

import time
from typing import Final

import httpx
import pytest

from gatehouse_e2e.api import Api, Person, Refused
from gatehouse_e2e.mails import Mails
from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

LONG: Final = 4  # seconds


def test_a_forgotten_password_is_reset_by_the_mailed_link_once(
    mails: Mails, people: People, person: Person
) -> None:
    api = people.api(person)
    assert api.http.post("/v1/users/password-reset", json={"email": person.email}).status_code == 202
    token = mails.wait(person.email, "password").token
    new = people.stranger().password
    body = {"token": token, "password": new}
    assert api.http.post("/v1/users/links/reset-password", json=body).status_code == 204
    again = api.http.post("/v1/users/links/reset-password", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "link_used")
    until(
        lambda: api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401,
        3,
        "the sessions of before the reset refused",
    )
    with pytest.raises(Refused):
        api.sign_in(person.email, person.password)
    assert api.me(api.sign_in(person.email, new)).json()["email_verified"] is True


def test_whoever_strangers_keep_out_gets_in_by_a_mailed_link(mails: Mails, people: People) -> None:
    victim = people.registered()
    at_home = people.api(victim).http
    guess = {"grant_type": "password", "username": victim.email, "password": "a wrong one"}

    def keep_out() -> None:
        """Guess until the wait is longer than what follows takes."""
        elsewhere = people.api(people.stranger()).http
        while (answer := elsewhere.post("/auth/token", data=guess)).status_code != 429 or (
            int(answer.headers["retry-after"]) < LONG
        ):
            assert answer.status_code in (400, 429, 503), answer.text
            time.sleep(int(answer.headers.get("retry-after", 0)))

    def sign_in(http: httpx.Client, password: str) -> int:
        form = guess | {"password": password}
        return http.post("/auth/token", data=form).status_code

    keep_out()
    assert sign_in(at_home, victim.password) == 429
    assert at_home.post("/v1/users/password-reset", json={"email": victim.email}).status_code == 202
    body = {"token": mails.wait(victim.email, "password").token, "password": people.stranger().password}
    keep_out()
    assert at_home.post("/v1/users/links/reset-password", json=body).status_code == 204
    assert sign_in(people.api(people.stranger()).http, body["password"]) == 200, (
        "on any device, as the wait is over"
    )
    keep_out()
    assert sign_in(people.api(people.stranger()).http, body["password"]) == 429
    assert sign_in(at_home, body["password"]) == 200, "where the link was followed, whatever strangers do"


def test_a_reset_for_nobody_answers_alike(api: Api, people: People) -> None:
    known = people.registered()
    answers = [
        api.http.post("/v1/users/password-reset", json={"email": email})
        for email in (known.email, people.stranger().email)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content


def test_an_address_is_verified_by_posting_not_by_looking(
    mails: Mails, people: People, person: Person
) -> None:
    api = people.api(person)
    assert api.http.post("/v1/users/verification", json={"email": person.email}).status_code == 202
    mail = mails.wait(person.email)
    page = mail.link.partition("#")[0]
    for method in ("HEAD", "GET", "GET"):  # a scanner follows the link: nothing is used up
        assert api.http.request(method, page).status_code == 200
    assert api.me(person.tokens).json()["email_verified"] is False
    done, again = (
        api.http.post("/v1/users/links/verify-address", json={"token": mail.token}) for _ in range(2)
    )
    assert done.status_code == 204
    assert (again.status_code, again.json()["code"]) == (409, "link_used")
    assert api.me(person.tokens).json()["email_verified"] is True


def test_a_new_address_counts_once_confirmed(mails: Mails, people: People, person: Person) -> None:
    api = people.api(person)
    new = people.stranger().email
    body = {"email": new, "password": person.password}
    asked = api.http.post("/v1/users/me/email", headers=person.tokens.bearer, json=body)
    assert asked.status_code == 202
    assert api.me(person.tokens).json()["email"] == person.email
    confirmed = api.http.post("/v1/users/links/change-address", json={"token": mails.wait(new).token})
    assert confirmed.status_code == 204
    assert api.me(api.sign_in(new, person.password)).json()["email"] == new


def test_a_change_of_address_that_was_somebody_elses_doing_is_undone_from_the_old_one(
    mails: Mails, people: People, person: Person
) -> None:
    """Whoever knew the password changed the address; its owner, who once confirmed the old one, still reads its mail."""
    api = people.api(person)
    shown = {"token": mails.wait(person.email, "confirm").token}
    assert api.http.post("/v1/users/links/verify-address", json=shown).status_code == 204
    new = people.stranger().email
    body = {"email": new, "password": person.password}
    assert api.http.post("/v1/users/me/email", headers=person.tokens.bearer, json=body).status_code == 202
    token = mails.wait(new).token
    assert api.http.post("/v1/users/links/change-address", json={"token": token}).status_code == 204
    thief = api.sign_in(new, person.password)

    undo = mails.wait(person.email, "was changed")
    assert undo.link.partition("#")[0].endswith("/undo-change")
    assert api.http.post("/v1/users/links/undo-change", json={"token": undo.token}).status_code == 204
    until(
        lambda: api.http.get("/v1/users/me", headers=thief.bearer).status_code == 401,
        3,
        "every session of before the undoing refused",
    )
    with pytest.raises(Refused):
        api.sign_in(new, person.password)
    chosen = people.stranger().password
    reset = {"token": mails.wait(person.email, "new password").token, "password": chosen}
    assert api.http.post("/v1/users/links/reset-password", json=reset).status_code == 204
    assert api.me(api.sign_in(person.email, chosen)).json()["email"] == person.email
