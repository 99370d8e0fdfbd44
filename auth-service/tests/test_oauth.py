"""The OAuth endpoints beyond the standards' own clauses, which are in test_rfc6749_oauth.py."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Service, make_settings, started
from people import People
from stored import records

from auth_service.clients.exceptions import ClientFault
from auth_service.clients.models import hash_secret, new_secret
from auth_service.contract import PATH, document


async def test_an_unknown_grant_has_its_own_error(service: Service) -> None:
    assert (await service.token(grant_type="magic")).json()["error"] == "unsupported_grant_type"


async def test_unknown_wrong_and_disabled_accounts_get_one_answer(service: Service, people: People) -> None:
    people.add("eve@example.com")["status"] = "disabled"
    responses = [
        await service.token(grant_type="password", username=name, password=password)
        for name, password in (
            ("nobody@example.com", "x" * 12),
            ("ada@example.com", "x" * 12),
            ("eve@example.com", People.PASSWORD),
        )
    ]
    assert {(response.status_code, response.text) for response in responses} == {(400, responses[0].text)}
    assert responses[0].json()["code"] == "invalid_credentials"


async def test_basic_credentials_that_cannot_be_read_are_no_client(service: Service) -> None:
    for path in ("/auth/token", "/auth/revoke", "/auth/introspect"):
        for credentials in (b"\xe9", b"=", b"/w==", b"YTpi\xff"):
            response = await service.public.post(
                path, data={"token": "x"}, headers={b"Authorization": b"Basic " + credentials}
            )
            assert (response.status_code, response.json()["error"]) == (401, "invalid_client"), credentials


async def test_a_client_with_both_its_secrets_gets_tokens_without_a_refresh_token(service: Service) -> None:
    first = await service.parts.clients.register("reports", {"a", "b"}, set())
    second = await service.parts.clients.add_secret("reports")
    for secret in (first, second):
        response = await service.public.post(
            "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", secret)
        )
        assert response.json()["scope"] == "a b"
        assert "refresh_token" not in response.json()
    await service.parts.clients.drop_older_secret("reports")
    refused = await service.public.post(
        "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", first)
    )
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")


async def test_a_client_of_a_command_is_called_and_given_what_one_of_the_settings_may_be(
    redis_url: str, people: People, tmp_path: Path
) -> None:
    configured = {"billing": {"secret_hashes": [hash_secret("x")]}}
    async with started(make_settings(redis_url, people.url, tmp_path, clients=configured)) as service:
        clients = service.parts.clients
        await clients.register("reports", {"a"}, set())
        before = [client.id for client in await clients.all()]
        for name in ("a b", "é", "", "a/b", "x" * 65, "first-party", "billing", "reports"):
            with pytest.raises(ClientFault):
                await clients.register(name, {"a"}, set())
        with pytest.raises(ClientFault, match="remove it first, or give it a second secret"):
            await clients.register("reports", {"a"}, set())
        for scope in ("*", "account", "a b", "é", "", '"'):
            with pytest.raises(ClientFault):
                await clients.register("more", {"a", scope}, set())
        assert (
            [client.id for client in await clients.all()] == before == ["billing", "first-party", "reports"]
        )


async def test_a_client_that_was_removed_gets_nothing_more(service: Service) -> None:
    secret = await service.parts.clients.register("reports", {"a"}, set())
    form = {"grant_type": "client_credentials"}
    for status in (200, 401):
        response = await service.public.post("/auth/token", data=form, auth=("reports", secret))
        assert response.status_code == status
        if status == 200:
            await service.parts.clients.remove("reports")


async def test_a_clients_secret_is_kept_as_its_hash_alone(service: Service, redis: Any) -> None:
    secrets = [
        await service.parts.clients.register("reports", {"a"}, set()),
        await service.parts.clients.add_secret("reports"),
    ]
    kept = records("client").open("reports", await redis.hget("auth:clients", "reports")).text
    for secret in secrets:
        assert hash_secret(secret) in kept
        assert secret not in kept


async def test_a_client_of_the_settings_may_change_its_secret_with_two_valid_meanwhile(
    redis_url: str, people: People, tmp_path: Path
) -> None:
    old, new = new_secret(), new_secret()
    form = {"grant_type": "client_credentials"}
    for valid in ([old], [old, new], [new]):
        clients = {"reports": {"secret_hashes": list(map(hash_secret, valid))}}
        async with started(make_settings(redis_url, people.url, tmp_path, clients=clients)) as service:
            for secret in (old, new):
                response = await service.public.post("/auth/token", data=form, auth=("reports", secret))
                assert response.status_code == (200 if secret in valid else 401)


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


async def test_a_clients_own_token_has_no_sessions_to_list_or_to_end(service: Service) -> None:
    secret = await service.parts.clients.register("reports", {"sessions"}, set())
    response = await service.public.post(
        "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", secret)
    )
    async with service.client(response.json()["access_token"]) as client:
        for method, path in (("GET", ""), ("DELETE", ""), ("DELETE", f"/{'x' * 22}")):
            refused = await client.request(method, f"/auth/sessions{path}")
            assert (refused.status_code, refused.json()["code"]) == (403, "not_a_person")


def test_the_published_api_document_is_the_present_one() -> None:
    assert Path(PATH).read_text("utf-8") == document()
