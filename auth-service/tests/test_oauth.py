"""The token endpoint's strictness (RFC 6749) and its neighbours (7009, 7662, 8414)."""

from pathlib import Path

import pytest
from conftest import Service
from people import People

from auth_service.contract import PATH, document


async def test_a_parameter_given_twice_is_refused(service: Service) -> None:
    answer = await service.public.post(
        "/auth/token",
        content="grant_type=password&grant_type=password",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data", ""])
async def test_only_a_form_is_read(service: Service, media_type: str) -> None:
    answer = await service.public.post("/auth/token", content="{}", headers={"content-type": media_type})
    assert answer.json()["error"] == "invalid_request"


async def test_an_empty_parameter_is_absent_and_an_unknown_one_ignored(service: Service) -> None:
    await service.sign_in(scope="", colour="blue")


async def test_an_unknown_grant_has_its_own_error(service: Service) -> None:
    assert (await service.token(grant_type="magic")).json()["error"] == "unsupported_grant_type"


async def test_unknown_wrong_and_disabled_accounts_get_one_answer(service: Service, people: People) -> None:
    people.add("eve@example.com")["status"] = "disabled"
    answers = [
        await service.token(grant_type="password", username=name, password=password)
        for name, password in (
            ("nobody@example.com", "x" * 12),
            ("ada@example.com", "x" * 12),
            ("eve@example.com", People.PASSWORD),
        )
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(400, answers[0].text)}
    assert answers[0].json()["code"] == "invalid_credentials"


async def test_an_empty_basic_header_means_the_first_party_client(service: Service) -> None:
    form = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}
    assert (await service.public.post("/auth/token", data=form, auth=("", ""))).status_code == 200


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke", "/auth/introspect"])
@pytest.mark.parametrize("credentials", [b"\xe9", b"=", b"/w==", b"YTpi\xff"])
async def test_basic_credentials_that_cannot_be_read_are_no_client(
    service: Service, path: str, credentials: bytes
) -> None:
    answer = await service.public.post(
        path, data={"token": "x"}, headers={b"Authorization": b"Basic " + credentials}
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_client_with_both_its_secrets_gets_tokens_without_a_refresh_token(service: Service) -> None:
    first = await service.parts.clients.register("reports", {"a", "b"}, set())
    second = await service.parts.clients.add_secret("reports")
    for secret in (first, second):
        answer = await service.public.post(
            "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", secret)
        )
        assert answer.json()["scope"] == "a b"
        assert "refresh_token" not in answer.json()
    await service.parts.clients.drop_older_secret("reports")
    refused = await service.public.post(
        "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", first)
    )
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")


async def test_introspection_wants_a_client_and_tells_nothing_of_a_bad_token(service: Service) -> None:
    grant = await service.sign_in()
    secret = await service.parts.clients.register("api", set(), set())
    token = {"token": grant["access_token"]}
    assert (await service.public.post("/auth/introspect", data=token)).status_code == 401
    good = await service.public.post("/auth/introspect", data=token, auth=("api", secret))
    assert good.json()["active"] is True
    bad = await service.public.post("/auth/introspect", data={"token": "a.b.c"}, auth=("api", secret))
    assert bad.json() == {"active": False}


async def test_only_the_owning_client_revokes_and_an_unknown_token_is_no_error(service: Service) -> None:
    grant = await service.sign_in()
    secret = await service.parts.clients.register("api", set(), set())
    stolen = await service.public.post(
        "/auth/revoke", data={"token": grant["refresh_token"]}, auth=("api", secret)
    )
    assert (stolen.status_code, stolen.json()["code"]) == (400, "wrong_client")
    assert (await service.public.post("/auth/revoke", data={"token": "unknown"})).status_code == 200
    assert (await service.refresh(grant["refresh_token"])).status_code == 200


async def test_a_person_sees_and_ends_their_own_sessions_alone(service: Service, people: People) -> None:
    people.add("eve@example.com")
    mine, other = await service.sign_in(), await service.sign_in()
    theirs = await service.sign_in("eve@example.com")
    async with service.client(mine["access_token"]) as client:
        items = (await client.get("/auth/sessions")).json()["items"]
        assert [item["current"] for item in items].count(True) == 1
        assert len(items) == 2
        foreign = theirs["refresh_token"].split(".")[0]
        assert (await client.delete(f"/auth/sessions/{foreign}")).status_code == 404
        assert (await client.get("/auth/sessions", params={"user": "somebody"})).status_code == 403
        assert (await client.delete("/auth/sessions", params={"keep": "current"})).status_code == 204
    assert (await service.refresh(other["refresh_token"])).json()["code"] == "session_ended"
    assert (await service.refresh(mine["refresh_token"])).status_code == 200
    assert (await service.refresh(theirs["refresh_token"])).status_code == 200


def test_the_published_api_document_is_the_present_one() -> None:
    assert Path(PATH).read_text("utf-8") == document()
