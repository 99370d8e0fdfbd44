"""People over HTTP: registering, reading, changing, and what administrators may do."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
from conftest import PASSWORD, Person, Service
from httpx import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.authenticator import Authenticator
from service_kit.revocations import Revocation
from service_kit.testing import TestIssuer
from user_service.config import Settings
from user_service.database import DatabaseUnavailable
from user_service.main import Parts
from user_service.pagination import encode_cursor
from user_service.users.idempotency import claim, keyed_request
from user_service.users.models import utc_now


def body(email: str, **more: object) -> dict[str, object]:
    return {"email": email, "name": "Ada", "password": PASSWORD, **more}


def code(response: Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_a_person_registers_and_reads_themselves(service: Service) -> None:
    ada = await service.register("Ada@Example.com")
    me = await ada.client.get("/v1/users/me")
    assert me.status_code == 200
    assert me.json()["email"] == "Ada@Example.com"
    assert me.json()["roles"] == []
    assert "password" not in me.text
    assert me.headers["etag"] == ada.etag


async def test_an_email_is_taken_once_whatever_its_case(service: Service) -> None:
    await service.register("ada@example.com")
    assert code(await service.anonymous.post("/v1/users", json=body("ADA@EXAMPLE.COM"))) == (
        409,
        "email_taken",
    )


async def test_two_registrations_at_once_make_one_person(service: Service) -> None:
    answers = await asyncio.gather(
        *(service.anonymous.post("/v1/users", json=body("ada@example.com")) for _ in range(4))
    )
    assert sorted(response.status_code for response in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize("field", ["roles", "status", "email_verified", "id"])
async def test_nobody_gives_themselves_more_than_they_have(service: Service, field: str) -> None:
    response = await service.anonymous.post("/v1/users", json=body("ada@example.com", **{field: "admin"}))
    assert code(response) == (422, "invalid_request")
    ada = await service.register()
    change = await ada.client.patch("/v1/users/me", json={field: "admin"}, headers={"If-Match": ada.etag})
    assert code(change) == (422, "invalid_request")


async def test_an_invalid_registration_never_comes_back(service: Service) -> None:
    response = await service.anonymous.post("/v1/users", json={"name": 7, "password": "canary-value-1"})
    assert response.status_code == 422
    assert "canary-value-1" not in response.text
    assert {error["field"] for error in response.json()["errors"]} == {"email", "name"}


async def test_a_repeat_with_the_same_key_gets_the_first_answer(service: Service) -> None:
    key = {"Idempotency-Key": "a-key"}
    first = await service.anonymous.post("/v1/users", json=body("ada@example.com"), headers=key)
    again = await service.anonymous.post("/v1/users", json=body("ada@example.com"), headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]


async def test_another_persons_key_shows_nothing(service: Service) -> None:
    key = {"Idempotency-Key": "a-key"}
    await service.anonymous.post("/v1/users", json=body("ada@example.com"), headers=key)
    other = await service.anonymous.post("/v1/users", json=body("eve@example.com"), headers=key)
    assert code(other) == (422, "idempotency_key_reused")
    assert "ada@" not in other.text


async def test_repeats_at_once_make_one_person(service: Service) -> None:
    key = {"Idempotency-Key": "a-key"}
    answers = await asyncio.gather(
        *(service.anonymous.post("/v1/users", json=body("ada@example.com"), headers=key) for _ in range(5))
    )
    made = [response for response in answers if response.status_code == 201]
    assert len({response.json()["id"] for response in made}) == 1
    assert all(
        response.json()["code"] == "request_in_progress" for response in answers if response not in made
    )


@pytest.mark.quiet
@pytest.mark.containers
@pytest.mark.parametrize("empty_database", ["mysql"], indirect=True)
async def test_a_repeat_waits_for_the_first_and_is_then_told_to_come_back(
    service: Service, parts: Parts, settings: Settings
) -> None:
    key, sent = {"Idempotency-Key": "a-key"}, body("ada@example.com")
    server_key, content = settings.idempotency_key.get_secret_value().encode(), json.dumps(sent).encode()
    first = keyed_request(server_key, "anonymous", "users.register", "a-key", content)
    claimed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: AsyncConnection) -> None:
        await claim(connection, first, utc_now())
        claimed.set()
        await go_on.wait()
        raise ConnectionAbortedError  # the first is rolled back in the end

    async with asyncio.TaskGroup() as group:
        held = group.create_task(asyncio.wait_for(ignoring_abort(parts.database.transaction(slow)), 9))
        await claimed.wait()
        began = time.monotonic()
        response = await service.anonymous.post("/v1/users", json=sent, headers=key)
        assert 0.5 < time.monotonic() - began < 2.5
        assert code(response) == (409, "request_in_progress")
        assert int(response.headers["retry-after"]) >= 1
        go_on.set()
        await held
    again = await service.anonymous.post("/v1/users", json=sent, headers=key)
    assert (again.status_code, "idempotent-replayed" in again.headers) == (201, False)


async def ignoring_abort(work: Awaitable[None]) -> None:
    with suppress(DatabaseUnavailable):
        await work


async def test_a_refused_registration_leaves_its_key_free(service: Service) -> None:
    await service.register("ada@example.com")
    key = {"Idempotency-Key": "a-key"}
    for _ in range(2):
        response = await service.anonymous.post("/v1/users", json=body("ada@example.com"), headers=key)
        assert code(response) == (409, "email_taken")


async def test_an_update_needs_the_version_it_was_made_from(service: Service) -> None:
    ada = await service.register()
    change = {"name": "Ada Lovelace"}
    assert code(await ada.client.patch("/v1/users/me", json=change)) == (428, "if_match_required")
    stale = await ada.client.patch("/v1/users/me", json=change, headers={"If-Match": '"0"'})
    assert code(stale) == (412, "changed_meanwhile")
    weak = await ada.client.patch("/v1/users/me", json=change, headers={"If-Match": f"W/{ada.etag}"})
    assert code(weak) == (412, "weak_etag")
    by_a_proxy = {"If-Match": f'"{ada.etag[1:-1]}-gzip"'}
    assert code(await ada.client.patch("/v1/users/me", json=change, headers=by_a_proxy)) == (412, "weak_etag")
    done = await ada.client.patch("/v1/users/me", json=change, headers={"If-Match": ada.etag})
    assert done.status_code == 200
    assert done.json()["name"] == "Ada Lovelace"
    assert done.headers["etag"] != ada.etag
    again = await ada.client.patch("/v1/users/me", json=change, headers={"If-Match": ada.etag})
    assert again.status_code == 412


async def test_the_version_may_stand_in_any_line_of_the_condition(service: Service) -> None:
    ada = await service.register()
    path, lines = "/v1/users/me", ['"0"', ada.etag]
    held = await ada.client.get(path, headers=[("If-None-Match", line) for line in lines])
    assert held.status_code == 304
    matches = [("If-Match", line) for line in lines]
    assert (await ada.client.patch(path, json={"name": "Grace"}, headers=matches)).status_code == 200


async def test_of_two_updates_from_one_version_one_wins(service: Service) -> None:
    ada = await service.register()
    answers = await asyncio.gather(
        *(
            ada.client.patch("/v1/users/me", json={"name": name}, headers={"If-Match": ada.etag})
            for name in ("Grace", "Joan")
        )
    )
    assert sorted(response.status_code for response in answers) == [200, 412]


async def test_what_the_client_already_holds_is_not_sent_again(service: Service) -> None:
    ada = await service.register()
    response = await ada.client.get("/v1/users/me", headers={"If-None-Match": ada.etag})
    assert (response.status_code, response.content) == (304, b"")
    assert (
        response.headers["Vary"] == (await ada.client.get("/v1/users/me")).headers["Vary"] == "Authorization"
    )


async def test_whoever_signs_in_next_at_a_browser_is_not_shown_the_record_that_it_holds(
    service: Service,
) -> None:
    """Chromium asks with the ETag of what it holds though `Vary: Authorization` does not match, as RFC 9111 lets it."""
    ada, eve = await service.register(), await service.register()
    response = await eve.client.get("/v1/users/me", headers={"If-None-Match": ada.etag})
    assert (response.status_code, response.json()["id"]) == (200, str(eve.id))
    change = await eve.client.patch("/v1/users/me", json={"name": "Eve"}, headers={"If-Match": ada.etag})
    assert code(change) == (412, "changed_meanwhile")


async def test_a_person_sees_nobody_else(service: Service) -> None:
    ada, eve = await service.register(), await service.register()
    for verb, path in [
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", "/roles"), ("POST", "/disable"), ("POST", "/enable"),
        ("POST", "/restore"), ("POST", "/erase"), ("GET", "/audit"),
    ]:  # fmt: skip
        for someone in (ada.id, uuid4()):
            response = await eve.client.request(verb, f"/v1/users/{someone}{path}", json={"roles": []})
            assert response.status_code in (403, 422), (verb, path)
    assert (await eve.client.get(f"/v1/users/{eve.id}")).status_code == 200
    assert (await eve.client.get("/v1/users")).status_code == 403
    assert (await service.anonymous.get("/v1/users/me")).status_code == 401


async def test_a_clients_own_token_is_no_person(service: Service, issuer: object) -> None:
    client = service.client(issuer.token(sub="client:batch", cv=None))  # type: ignore[attr-defined] # a fixture
    assert code(await client.get("/v1/users/me")) == (403, "not_a_person")


async def test_pages_meet_everyone_once_in_a_stable_order(service: Service) -> None:
    people = [(await service.register()).id for _ in range(7)]
    admin, seen, url = service.admin(), list[str](), "/v1/users?limit=3"
    while url:
        response = await admin.get(url)
        seen += [item["id"] for item in response.json()["items"]]
        link = response.headers.get("link", "")
        url = link.partition("<")[2].partition(">")[0]
        assert bool(url) == bool(response.json()["next"])
    assert seen == [str(one) for one in sorted(people)]


async def test_a_list_is_narrowed_by_what_administrators_ask(service: Service) -> None:
    ada = await service.register("ada@example.com", "Ada Lovelace")
    bob = await service.register("bob@example.com", "bob")
    admin = service.admin()
    await admin.put(f"/v1/users/{bob.id}/roles", json={"roles": ["editor"]}, headers={"If-Match": bob.etag})
    await admin.post(f"/v1/users/{ada.id}/disable")

    async def ids(query: str) -> list[str]:
        response = await admin.get(f"/v1/users?{query}")
        assert response.status_code == 200, response.text
        return [item["id"] for item in response.json()["items"]]

    assert await ids("status=disabled") == [str(ada.id)]
    assert await ids("role=editor") == [str(bob.id)]
    assert await ids("email=ADA@") == [str(ada.id)]
    assert await ids("name=BO") == [str(bob.id)]
    assert await ids("created_from=2100-01-01T00:00:00Z") == []
    assert await ids("created_before=2100-01-01T00:00:00Z&status=active") == [str(bob.id)]
    assert await ids("email=%25") == []


@pytest.mark.parametrize("moment", ["0.5", "1764288000", "-1", "1e-5", "2026-01-31", "2026-01-31T12:00:00"])
async def test_a_moment_is_written_out_with_its_offset(service: Service, moment: str) -> None:
    """A number is no seconds since 1970, and a day of no time zone no moment."""
    response = await service.admin().get(f"/v1/users?created_from={moment}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "created_from")


@pytest.mark.parametrize("query", ["email=p", "name=p", "role=r", ""])
async def test_every_search_has_pages(service: Service, query: str) -> None:
    admin = service.admin()
    for number in range(5):
        person = await service.register(f"p{number}@example.com", "Pat")
        await admin.put(
            f"/v1/users/{person.id}/roles", json={"roles": ["r"]}, headers={"If-Match": person.etag}
        )
    seen, cursor = list[str](), ""
    while True:
        page = (await admin.get(f"/v1/users?{query}&limit=2{cursor}")).json()
        seen += [item["email"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == [f"p{number}@example.com" for number in range(5)]


@pytest.mark.parametrize("cursor", ["x", "W10", "WyJhIl0", "bnVsbA", "é", "W1tb" * 500])
async def test_a_made_up_cursor_is_refused(service: Service, cursor: str) -> None:
    assert code(await service.admin().get(f"/v1/users?cursor={cursor}")) == (400, "cursor_invalid")


async def test_a_cursor_of_half_a_surrogate_pair_is_refused(service: Service) -> None:
    cursor = encode_cursor("\ud800")
    asked = await service.admin().get(f"/v1/users?email=a&cursor={cursor}")
    assert code(asked) == (400, "cursor_invalid")


async def test_disabling_ends_sessions_and_enabling_lets_in_again(service: Service) -> None:
    ada = await service.register()
    admin, auth = service.admin(), service.auth_service()
    state = (await auth.get(f"/internal/v1/users/{ada.id}")).json()
    assert (state["credentials_version"], state["sessions_cv"]) == (1, 1)
    assert (await admin.post(f"/v1/users/{ada.id}/disable")).json()["status"] == "disabled"
    assert (await service.verify(ada.email))["reason"] == "disabled"
    state = (await auth.get(f"/internal/v1/users/{ada.id}")).json()
    assert (state["status"], state["credentials_version"], state["sessions_cv"]) == ("disabled", 2, 2)
    await admin.post(f"/v1/users/{ada.id}/disable")
    assert (await auth.get(f"/internal/v1/users/{ada.id}")).json()["credentials_version"] == 2
    assert (await admin.post(f"/v1/users/{ada.id}/enable")).json()["status"] == "active"
    assert (await service.verify(ada.email))["verified"]


async def test_a_role_change_spares_the_sessions(service: Service) -> None:
    ada = await service.register()
    admin, auth = service.admin(), service.auth_service()
    response = await admin.put(
        f"/v1/users/{ada.id}/roles", json={"roles": ["editor", "admin"]}, headers={"If-Match": ada.etag}
    )
    assert response.json()["roles"] == ["admin", "editor"]
    state = (await auth.get(f"/internal/v1/users/{ada.id}")).json()
    assert (state["credentials_version"], state["sessions_cv"]) == (2, 1)
    assert state["roles"] == ["admin", "editor"]


async def test_a_demoted_administrators_living_token_ends_with_the_news(
    service: Service, issuer: TestIssuer, authenticator: Authenticator
) -> None:
    ada = await service.register()
    promoted = await service.admin().put(
        f"/v1/users/{ada.id}/roles", json={"roles": ["admin"]}, headers={"If-Match": ada.etag}
    )
    await an_administrator(service)
    as_admin = service.client(issuer.token(sub=str(ada.id), roles=["admin"], cv=2))
    assert (await as_admin.get("/v1/users")).status_code == 200
    match = {"If-Match": promoted.headers["etag"]}
    await service.admin().put(f"/v1/users/{ada.id}/roles", json={"roles": []}, headers=match)
    state = (await service.auth_service().get(f"/internal/v1/users/{ada.id}")).json()
    assert (state["roles"], state["credentials_version"], state["sessions_cv"]) == ([], 3, 1)
    # What auth-service makes of the event, and every verifier follows.
    authenticator.revocations.add(Revocation("subject", str(ada.id), int(time.time()) + 600, 3))
    assert code(await as_admin.get("/v1/users")) == (401, "credentials_changed")
    refreshed = service.client(issuer.token(sub=str(ada.id), cv=3))
    assert (await refreshed.get("/v1/users/me")).status_code == 200
    assert (await refreshed.get("/v1/users")).status_code == 403


async def test_a_deleted_person_keeps_the_address_until_erased(service: Service) -> None:
    ada = await service.register("ada@example.com")
    admin = service.admin()
    assert code(await admin.post(f"/v1/users/{ada.id}/erase")) == (409, "not_deleted")
    assert (await admin.delete(f"/v1/users/{ada.id}")).json()["status"] == "deleted"
    assert (await service.verify("ada@example.com"))["verified"] is False
    assert (await service.anonymous.post("/v1/users", json=body("ada@example.com"))).status_code == 409
    assert (await admin.post(f"/v1/users/{ada.id}/restore")).json()["status"] == "active"
    assert (await service.verify("ada@example.com"))["verified"]
    await admin.delete(f"/v1/users/{ada.id}")
    assert (await admin.post(f"/v1/users/{ada.id}/erase")).status_code == 204
    assert code(await admin.get(f"/v1/users/{ada.id}")) == (404, "user_not_found")
    assert (await service.anonymous.post("/v1/users", json=body("ada@example.com"))).status_code == 201


async def test_who_was_disabled_is_so_again_when_restored(service: Service) -> None:
    ada = await service.register()
    admin = service.admin()
    await admin.post(f"/v1/users/{ada.id}/disable")
    await admin.delete(f"/v1/users/{ada.id}")
    assert (await admin.post(f"/v1/users/{ada.id}/restore")).json()["status"] == "disabled"


async def test_administrators_cannot_shut_themselves_out(service: Service, issuer: object) -> None:
    ada = await service.register()
    changed = await service.admin().put(
        f"/v1/users/{ada.id}/roles", json={"roles": ["admin"]}, headers={"If-Match": ada.etag}
    )
    token = issuer.token(sub=str(ada.id), roles=["admin"], cv=2)  # type: ignore[attr-defined] # a fixture
    self_made = service.client(token)
    assert code(await self_made.delete(f"/v1/users/{ada.id}")) == (409, "own_account")
    assert code(await self_made.post(f"/v1/users/{ada.id}/disable")) == (409, "own_account")
    match = {"If-Match": changed.headers["etag"]}
    demotion = await self_made.put(f"/v1/users/{ada.id}/roles", json={"roles": []}, headers=match)
    assert code(demotion) == (409, "own_account")


async def an_administrator(service: Service) -> Person:
    """Somebody who is an administrator, with the ETag that they have now."""
    person = await service.register()
    path, match = f"/v1/users/{person.id}/roles", {"If-Match": person.etag}
    response = await service.admin().put(path, json={"roles": ["admin"]}, headers=match)
    assert response.status_code == 200
    return replace(person, etag=response.headers["etag"])


def removals(service: Service, person: Person) -> list[Callable[[], Awaitable[Response]]]:
    """Every way to take an administrator away."""
    admin, path, match = service.admin(), f"/v1/users/{person.id}", {"If-Match": "*"}
    return [
        lambda: admin.put(f"{path}/roles", json={"roles": ["editor"]}, headers=match),
        lambda: admin.post(f"{path}/disable"),
        lambda: admin.delete(path),
    ]


@pytest.mark.parametrize("way", [0, 1, 2])
async def test_the_last_active_administrator_stays(service: Service, way: int) -> None:
    ada, grace = await an_administrator(service), await an_administrator(service)
    assert (await removals(service, grace)[way]()).status_code == 200
    for remove in removals(service, ada):
        assert code(await remove()) == (409, "last_administrator")
    assert (await service.verify(ada.email))["user"]["roles"] == ["admin"]
    await an_administrator(service)
    assert (await removals(service, ada)[way]()).status_code == 200


@pytest.mark.parametrize("ways", [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2)])
async def test_administrators_who_remove_each_other_at_once_leave_one(
    service: Service, ways: tuple[int, int]
) -> None:
    pair = [await an_administrator(service) for _ in range(2)]
    # A connection for each: who had to open one would come too late for a race.
    await asyncio.gather(*(service.admin().get("/v1/users") for _ in range(4)))
    acts = [removals(service, person)[way] for person, way in zip(pair, ways, strict=True)]
    answers = await asyncio.gather(*(act() for act in acts))
    assert sorted(response.status_code for response in answers) == [200, 409], [one.text for one in answers]
    (left,) = (person for person, response in zip(pair, answers, strict=True) if response.status_code == 409)
    assert (await service.verify(left.email))["user"]["roles"] == ["admin"]


async def test_the_audit_tells_who_did_what_and_forgets_whom(service: Service) -> None:
    ada = await service.register()
    admin = service.admin()
    await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers={"If-Match": ada.etag})
    await admin.post(f"/v1/users/{ada.id}/disable")
    records = (await admin.get(f"/v1/users/{ada.id}/audit")).json()["items"]
    assert [record["action"] for record in records] == ["user.disabled", "user.updated", "user.created"]
    assert records[1]["actor"] == str(ada.id)
    assert records[1]["details"] == {"fields": ["name"]}
    assert "Grace" not in str(records)
    first = (await admin.get(f"/v1/users/{ada.id}/audit?limit=2")).json()
    rest = (await admin.get(f"/v1/users/{ada.id}/audit?limit=2&cursor={first['next']}")).json()
    assert [record["action"] for record in rest["items"]] == ["user.created"]
    await admin.delete(f"/v1/users/{ada.id}")
    await admin.post(f"/v1/users/{ada.id}/erase")
    assert (await admin.get(f"/v1/users/{ada.id}/audit")).json()["items"] == []


async def test_a_route_of_one_bind_is_unknown_on_the_other(service: Service) -> None:
    ada = await service.register()
    internal = await service.anonymous.post("/internal/v1/credentials/verify", json={})
    assert internal.status_code == 404
    assert (await service.auth_service().get(f"/v1/users/{ada.id}")).status_code == 404
    assert (await ada.client.get("http://users:9000/internal/v1/users/" + str(ada.id))).status_code == 401
