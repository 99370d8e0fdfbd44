"""Two people, every route and verb of the published document: what is one person's stays that person's."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest

from gatehouse_e2e.api import Api, Person, Refused, checked
from gatehouse_e2e.document import Operation, operations
from gatehouse_e2e.people import People

OF_ADMINISTRATORS = {"roles": ["admin"], "name": "Taken over"}


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.http.get("/openapi.json")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_nothing_of_anothers_is_read_or_changed_at_any_operation(
    document: dict[str, Any], people: People, person: Person
) -> None:
    neighbour = people.signed_in()
    before = everything_of(people, person)
    etag = people.api(person).me(person.tokens).headers["etag"]
    [session] = people.api(person).sessions(person.tokens)
    tried = 0
    for operation in operations(document):
        if "{" not in operation.path:
            continue
        for owned in (person.id, str(session["id"])):
            answer = ask(people, neighbour, operation, owned, etag)
            if operation.public:
                assert answer.status_code < 500, operation
            else:
                assert answer.status_code in (403, 404, 422), (operation, answer.status_code, answer.text)
            assert person.email not in answer.text, operation
            tried += 1
    assert tried >= 20
    assert everything_of(people, person) == before


@pytest.mark.parametrize(
    "spelled", ["{0}", "urn:uuid:{0}", "{1}", "{2}"], ids=["plain", "urn", "no dashes", "capitals"]
)
def test_an_id_is_somebody_elses_however_it_is_spelled(people: People, person: Person, spelled: str) -> None:
    neighbour = people.signed_in()
    spelling = spelled.format(person.id, person.id.replace("-", ""), person.id.upper())
    for method, path in (("GET", ""), ("PATCH", ""), ("GET", "/avatar")):
        headers = {**neighbour.tokens.bearer, "If-Match": '"1"'}
        answer = people.api(neighbour).http.request(
            method, f"/v1/users/{spelling}{path}", headers=headers, json={} if method == "PATCH" else None
        )
        assert answer.status_code == 403, (method, path, answer.text)


def test_nobody_lists_or_ends_anothers_sessions(people: People, person: Person) -> None:
    neighbour = people.signed_in()
    [session] = people.api(person).sessions(person.tokens)
    http, bearer = people.api(neighbour).http, neighbour.tokens.bearer
    for wanted in ({"user": [person.id]}, {"user": [neighbour.id, person.id]}):
        for method in ("GET", "DELETE"):
            answer = http.request(method, "/auth/sessions", params=wanted, headers=bearer)
            assert answer.status_code == 403, (method, wanted, answer.text)
    assert http.delete(f"/auth/sessions/{session['id']}", headers=bearer).status_code == 404
    assert people.api(person).sessions(person.tokens) == [session]


def test_an_administrators_token_that_was_narrowed_for_one_service_does_nothing_elsewhere(
    people: People, admin: Person, person: Person
) -> None:
    http, path = people.api(admin).http, f"/v1/users/{person.id}"
    form = {
        "grant_type": "refresh_token",
        "refresh_token": admin.tokens.refresh_token,
        "scope": "orders:read",
    }
    narrowed = http.post("/auth/token", data=form).json()["access_token"]
    bearer = {"Authorization": f"Bearer {narrowed}", "If-Match": "*"}
    asked = [("GET", "/v1/users", None), ("GET", "/v1/users/me", None), ("GET", path, None),
             ("PUT", f"{path}/roles", {"roles": ["admin"]}), ("POST", f"{path}/disable", None),
             ("DELETE", path, None)]  # fmt: skip
    for method, where, body in asked:
        answer = http.request(method, where, json=body, headers=bearer)
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), (method, where)
    assert people.api(person).me(person.tokens).json()["roles"] == []


def test_every_other_verb_at_a_published_path_is_refused(
    document: dict[str, Any], people: People, person: Person
) -> None:
    known: dict[str, set[str]] = {}
    for operation in operations(document):
        known.setdefault(operation.path.replace("session_id", "id"), set()).add(operation.method)
    for path, methods in known.items():
        if path.startswith("/v1/users/links/"):
            continue  # a GET there is the page for people, no operation of the API
        for method in {"GET", "PUT", "POST", "PATCH", "DELETE", "TRACE", "PURGE"} - methods:
            target = path.replace("{id}", person.id).replace("{kind}", "verify-address")
            answer = people.api(person).http.request(method, target, headers=person.tokens.bearer)
            assert answer.status_code in (401, 403, 404, 405, 422, 501), (method, path, answer.status_code)


def test_every_operation_that_asks_for_a_token_refuses_to_go_without(
    document: dict[str, Any], api: Api
) -> None:
    asked = [one for one in operations(document) if not one.public]
    assert len(asked) >= 15
    for operation in asked:
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic YTpi"},
            {"Authorization": ""},
        ):
            answer = api.http.request(operation.method, operation.at("0"), headers=headers, json={})
            assert answer.status_code == 401, (operation, headers, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer"), operation
            assert answer.json()["code"], operation


def test_nobody_registers_or_changes_into_more_than_a_person(people: People, person: Person) -> None:
    wanted: dict[str, Any] = {
        "id": person.id, "roles": ["admin"], "status": "disabled", "email_verified": True, "version": 99,
        "credentials_version": 99, "sessions_cv": 99, "password_hash": "!", "external_id": "x", "is_admin": True,
        "created_at": "2000-01-01T00:00:00Z", "scope": "*",
    }  # fmt: skip
    for name, value in wanted.items():
        stranger = people.stranger()
        api = people.api(stranger)
        body = {"email": stranger.email, "name": stranger.name, "password": stranger.password, name: value}
        with pytest.raises(Refused) as refusal:
            people.patiently(partial(register, api, body))
        assert refusal.value.status == 422, name
        headers = {**person.tokens.bearer, "If-Match": people.api(person).me(person.tokens).headers["etag"]}
        with pytest.raises(Refused) as refusal:
            people.patiently(partial(change, people.api(person), headers, {"name": "Still me", name: value}))
        assert refusal.value.status == 422, name
    mine = people.api(person).me(person.tokens).json()
    assert (mine["roles"], mine["status"], mine["name"]) == ([], "active", person.name)


def register(api: Api, body: dict[str, Any]) -> httpx.Response:
    return checked(api.http.post("/v1/users", json=body))


def change(api: Api, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return checked(api.http.patch("/v1/users/me", headers=headers, json=body))


def ask(people: People, neighbour: Person, operation: Operation, owned: str, etag: str) -> httpx.Response:
    headers = {**neighbour.tokens.bearer, "If-Match": etag}
    body = None if operation.method in ("GET", "DELETE") else OF_ADMINISTRATORS
    return people.api(neighbour).http.request(
        operation.method, operation.at(owned), headers=headers, json=body
    )


def everything_of(people: People, person: Person) -> tuple[Any, list[Any]]:
    api = people.api(person)
    sessions = [one["id"] for one in api.sessions(person.tokens)]
    return api.me(person.tokens).json(), sessions
