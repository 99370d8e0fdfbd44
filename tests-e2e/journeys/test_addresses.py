"""Which spellings of an address are one person's: decided once, and the same at every door."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from gatehouse_e2e.api import Person, Refused
from gatehouse_e2e.mails import Mails
from gatehouse_e2e.people import People

SPELLINGS: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "capitals of the domain": lambda email: email.replace("people.example", "People.EXAMPLE"),
    "an accent more": lambda email: email.replace("e2e-josé", "é2e-josé"),
    "an accent less": lambda email: email.replace("é", "e"),
    "the accent apart": lambda email: unicodedata.normalize("NFD", email),
    "a space of no width": lambda email: email.replace("josé", "jo\u200bsé"),
    "a full-width letter": lambda email: email.replace("josé", "\uff4aosé"),
}
ONE_PERSON = {"capitals", "capitals of the domain", "the accent apart"}


@pytest.fixture
def jose(people: People) -> Person:
    person = people.stranger()
    person.email = person.email.replace("e2e-", "e2e-josé-")
    people.register(person)
    return person


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_registering_and_signing_in_agree_who_an_address_is(
    spelling: str, people: People, jose: Person
) -> None:
    spelled = SPELLINGS[spelling](jose.email)
    assert spelled != jose.email
    other = people.stranger()
    try:
        registered = people.api(other).register(spelled, other.name, other.password)["id"]
    except Refused as refused:
        assert refused.status == (409 if spelling in ONE_PERSON else 422)
        registered = ""
    assert signs_in(people, spelled, jose.password) == (jose.id if spelling in ONE_PERSON else "")
    assert signs_in(people, spelled, other.password) == registered
    assert signs_in(people, jose.email, jose.password) == jose.id


def test_a_reset_is_mailed_to_the_stored_address_and_only_for_spellings_of_it(
    mails: Mails, people: People
) -> None:
    person = people.registered()
    http = people.api(person).http
    strange = person.email.replace("e2e", "\uff452e"), person.email.replace("e2e", "e\u200b2e")
    for spelled in (*strange, person.email.upper()):
        asked = http.post("/v1/users/password-reset", json={"email": spelled})
        assert asked.status_code in ((202,) if spelled not in strange else (202, 422))
    reset = mails.wait(person.email, "password")
    assert reset.to == (person.email,), "as typed at registration"
    assert [mail.subject for mail in mails.to(person.email)].count(reset.subject) == 1


def test_other_capitals_lead_to_the_one_account_at_every_door(
    mails: Mails, people: People, admin: Person, person: Person
) -> None:
    capitals, neighbour = person.email.upper(), people.signed_in()
    http = people.api(neighbour).http
    taken = {"email": capitals, "password": neighbour.password}
    changed = http.post("/v1/users/me/email", headers=neighbour.tokens.bearer, json=taken)
    assert changed.status_code in (202, 409)  # said at once, or told only to the address itself
    found = people.api(admin).http.get("/v1/users", headers=admin.tokens.bearer, params={"email": capitals})
    assert [(one["id"], one["email"]) for one in found.json()["items"]] == [(person.id, person.email)]
    assert signs_in(people, capitals, person.password) == person.id
    assert http.post("/v1/users/password-reset", json={"email": capitals}).status_code == 202
    body = {"token": mails.wait(person.email, "password").token, "password": people.stranger().password}
    assert http.post("/v1/users/links/reset-password", json=body).status_code == 204
    assert signs_in(people, person.email, body["password"]) == person.id


def signs_in(people: People, email: str, password: str) -> str:
    """The id of whoever that is; nobody's when it is refused."""
    api = people.api(people.stranger())
    try:
        return str(api.me(api.sign_in(email, password)).json()["id"])
    except Refused as refused:
        assert (refused.status, refused.error) == (400, "invalid_grant")
        return ""
