"""What people do with their own record, and administrators with others'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gatehouse_e2e.api import Person, Refused, checked
from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

# A change made in user-service reaches every verifier within 3 s at most.
SEEN_WITHIN = 3.0


def test_an_email_is_taken_once_whatever_its_capitals(people: People) -> None:
    somebody = people.registered()
    for email in (somebody.email, somebody.email.upper()):
        with pytest.raises(Refused) as refusal:
            people.api(somebody).register(email, "Somebody else", somebody.password)
        assert (refusal.value.status, refusal.value.code) == (409, "email_taken")


def test_a_name_is_changed_under_the_version_that_was_read(people: People, person: Person) -> None:
    api = people.api(person)
    etag = api.me(person.tokens).headers["etag"]
    changed = api.rename(person.tokens, "Grace Hopper", etag)
    assert changed.json()["name"] == "Grace Hopper"
    assert changed.headers["etag"] != etag
    with pytest.raises(Refused) as refusal:
        api.rename(person.tokens, "Too late", etag)
    assert refusal.value.status == 412
    unconditional = api.http.patch("/v1/users/me", headers=person.tokens.bearer, json={"name": "Hasty"})
    assert unconditional.status_code == 428
    assert api.me(person.tokens).json()["name"] == "Grace Hopper"


def test_a_changed_password_ends_every_session(people: People, person: Person) -> None:
    api = people.api(person)
    new = people.stranger().password
    api.change_password(person.tokens, person.password, new)

    def refused() -> bool:
        return api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401

    until(refused, SEEN_WITHIN, "the session of the old password refused", every=0.02)
    with pytest.raises(Refused):
        api.sign_in(person.email, person.password)
    assert api.me(api.sign_in(person.email, new)).json()["id"] == person.id


def test_an_administrator_reads_the_list_page_by_page(people: People, admin: Person) -> None:
    made = [people.registered() for _ in range(3)]
    api = people.api(admin)
    seen: list[str] = []
    cursor = None
    while len(seen) < 5000:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {}) | {"email": made[0].email[:14]}
        page = api.http.get("/v1/users", headers=admin.tokens.bearer, params=query)
        assert page.status_code == 200, page.text
        seen += [one["id"] for one in page.json()["items"]]
        cursor = page.json()["next"]
        if cursor is None:
            break
        assert 'rel="next"' in page.headers["link"]
    assert len(seen) == len(set(seen))
    assert {one.id for one in made} <= set(seen)


def test_somebody_without_the_role_does_not_read_the_list(people: People, person: Person) -> None:
    refused = people.api(person).http.get("/v1/users", headers=person.tokens.bearer)
    assert refused.status_code == 403
    assert refused.json()["code"]


def test_a_disabled_person_is_out_at_once_and_stays_out(
    people: People, admin: Person, person: Person
) -> None:
    api = people.api(person)
    disabled = people.api(admin).http.post(f"/v1/users/{person.id}/disable", headers=admin.tokens.bearer)
    assert disabled.is_success, disabled.text
    until(
        lambda: api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401,
        SEEN_WITHIN,
        "the disabled person refused",
    )
    attempts: tuple[Callable[[], object], ...] = (
        lambda: api.refresh(person.tokens.refresh_token),
        lambda: api.sign_in(person.email, person.password),
    )
    for attempt in attempts:
        with pytest.raises(Refused) as refusal:
            attempt()
        assert refusal.value.error == "invalid_grant"


def test_a_registration_repeated_with_its_key_is_made_once(people: People) -> None:
    somebody = people.stranger()
    api = people.api(somebody)
    body = {"email": somebody.email, "name": somebody.name, "password": somebody.password}
    key = {"Idempotency-Key": f"key-{somebody.email}"}
    first, second = (api.http.post("/v1/users", json=body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]


def test_a_key_that_was_used_for_something_else_is_refused(people: People) -> None:
    somebody = people.stranger()
    http = people.api(somebody).http
    body = {"email": somebody.email, "name": somebody.name, "password": somebody.password}
    key = {"Idempotency-Key": f"key-{somebody.email}"}
    assert http.post("/v1/users", json=body, headers=key).status_code == 201
    other = http.post("/v1/users", json=body | {"name": "Somebody else"}, headers=key)
    assert 400 <= other.status_code < 500
    assert other.json()["code"].startswith("idempotency_key"), other.text


def test_an_enabled_person_is_back(people: People, admin: Person, person: Person) -> None:
    administer(people, admin, "POST", f"/v1/users/{person.id}/disable")
    administer(people, admin, "POST", f"/v1/users/{person.id}/enable")
    people.sign_in(person)
    assert people.api(person).me(person.tokens).json()["status"] == "active"


def test_a_deleted_person_is_out_comes_back_restored_and_is_gone_once_erased(
    people: People, admin: Person, person: Person
) -> None:
    api = people.api(person)
    path = f"/v1/users/{person.id}"
    assert administer(people, admin, "DELETE", path).json()["status"] == "deleted"
    until(lambda: is_refused(people, person), SEEN_WITHIN, "the deleted person refused")
    with pytest.raises(Refused):
        api.sign_in(person.email, person.password)
    with pytest.raises(Refused) as refusal:  # the address stays taken for as long as they can come back
        api.register(person.email, "Somebody else", person.password)
    assert refusal.value.code == "email_taken"

    administer(people, admin, "POST", f"{path}/restore")
    people.sign_in(person)
    assert api.me(person.tokens).json()["id"] == person.id

    administer(people, admin, "DELETE", path)
    assert administer(people, admin, "POST", f"{path}/erase").status_code == 204
    assert people.api(admin).http.get(path, headers=admin.tokens.bearer).status_code == 404
    with pytest.raises(Refused):
        api.sign_in(person.email, person.password)
    assert api.register(person.email, "A newcomer", person.password)["id"] != person.id


def test_a_role_counts_after_the_next_refresh_and_the_token_of_before_no_longer(
    people: People, admin: Person, person: Person
) -> None:
    api = people.api(person)
    assert api.http.get("/v1/users", headers=person.tokens.bearer).status_code == 403
    path = f"/v1/users/{person.id}"
    etag = people.api(admin).http.get(path, headers=admin.tokens.bearer).headers["etag"]
    administer(people, admin, "PUT", f"{path}/roles", {"If-Match": etag}, {"roles": ["admin"]})
    until(lambda: is_refused(people, person), SEEN_WITHIN, "the token of before the change refused")
    person.tokens = api.refresh(person.tokens.refresh_token)
    assert api.http.get("/v1/users", headers=person.tokens.bearer).status_code == 200


def test_the_audit_tells_administrators_who_did_what(people: People, admin: Person, person: Person) -> None:
    path = f"/v1/users/{person.id}"
    administer(people, admin, "POST", f"{path}/disable")
    records = administer(people, admin, "GET", f"{path}/audit").json()["items"]
    assert [one["action"] for one in records] == ["user.disabled", "user.created"]
    assert records[0]["actor"] == admin.id
    assert people.api(person).http.get(f"{path}/audit", headers=person.tokens.bearer).status_code in (
        401,
        403,
    )


def administer(
    people: People,
    admin: Person,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> httpx.Response:
    return checked(
        people.api(admin).http.request(method, path, headers=admin.tokens.bearer | (headers or {}), json=body)
    )


def is_refused(people: People, person: Person) -> bool:
    return people.api(person).http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401
