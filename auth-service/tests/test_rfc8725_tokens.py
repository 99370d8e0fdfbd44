"""The checklist's "Tokens and keys" at the running service: every route that reads a token, with its own keys."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from conftest import ISSUER, Service, make_settings, started
from people import People
from pydantic import ValidationError

from auth_service.config import Settings
from service_kit.testing import TestIssuer
from service_kit.testing.refused import REFUSED


@pytest.fixture
def issuer(service: Service) -> TestIssuer:
    """Signs with the key that the service signs with."""
    signer = service.parts.keys.signer
    issuer = TestIssuer(ISSUER)
    issuer.sign_with(signer.kid, signer.private)
    return issuer


async def test_no_route_accepts_what_no_verifier_may_accept(service: Service, issuer: TestIssuer) -> None:
    secret = await service.parts.clients.register("api", set(), set())
    told, expected = {}, {}
    for bad in REFUSED:
        token = bad.make(issuer)
        if not token or token != token.strip(" "):
            continue  # spaces around a header's value are not part of it, and an empty parameter is absent
        refused = await service.public.get(
            "/auth/verify", headers={b"authorization": b"Bearer " + token.encode("latin-1")}
        )
        inactive = await service.public.post("/auth/introspect", data={"token": token}, auth=("api", secret))
        assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token"'), bad
        told[str(bad)] = refused.status_code, refused.json()["code"], inactive.content
        expected[str(bad)] = 401, bad.code, b'{"active":false}'
    assert told == expected


async def test_what_is_refused_there_is_wrong_in_that_one_way(service: Service, issuer: TestIssuer) -> None:
    headers: tuple[dict[str, Any], ...] = (
        {}, {"typ": "application/at+jwt"}, {"jku": "http://127.0.0.1:1/"}, {"x5c": ["AA"]},
    )  # fmt: skip
    for header in headers:
        async with service.client(issuer.token(header=header)) as client:
            assert (await client.get("/auth/verify")).status_code == 204, header


async def test_each_token_is_good_for_its_own_purpose_alone(service: Service) -> None:
    secret = await service.parts.clients.register("reports", {"a"}, {"user-service"})
    grant = await service.sign_in()
    form = {"grant_type": "client_credentials", "audience": "user-service"}
    response = await service.public.post("/auth/token", data=form, auth=("reports", secret))
    for token, code in (
        (grant["refresh_token"], "token_malformed"),
        (response.json()["access_token"], "wrong_audience"),
    ):
        async with service.client(token) as client:
            for path in ("/auth/verify", "/auth/sessions"):
                refused = await client.get(path)
                assert (refused.status_code, refused.json()["code"]) == (401, code)
    refused = await service.refresh(grant["access_token"])
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert refused.json()["code"] == "refresh_token_invalid"
    assert (await service.refresh(grant["refresh_token"])).status_code == 200


async def test_a_clients_subject_is_no_users_id_whatever_the_client_is_called(
    service: Service, people: People
) -> None:
    uuid = people["ada@example.com"]["id"]
    secret = await service.parts.clients.register(uuid, {"sessions"}, set())
    response = await service.public.post(
        "/auth/token", data={"grant_type": "client_credentials"}, auth=(uuid, secret)
    )
    subject = jwt.decode(response.json()["access_token"], options={"verify_signature": False})["sub"]
    assert subject == f"client:{uuid}"
    with pytest.raises(ValueError, match="badly formed"):
        UUID(subject)
    await service.sign_in()
    async with service.client(response.json()["access_token"]) as client:
        assert (await client.get("/auth/sessions")).json()["code"] == "not_a_person"


async def test_one_leeway_holds_at_every_route(redis_url: str, people: People, tmp_path: Path) -> None:
    settings = make_settings(redis_url, people.url, tmp_path, token_leeway_seconds=0)
    async with started(settings) as service:
        issuer = TestIssuer(ISSUER)
        issuer.sign_with(service.parts.keys.signer.kid, service.parts.keys.signer.private)
        secret = await service.parts.clients.register("api", set(), {"user-service"})
        now = issuer.claims()["iat"]
        for audience in (ISSUER, "user-service"):
            for times, active in (
                ({"exp": now + 60}, True),
                ({"exp": now - 5}, False),
                ({"iat": now + 15}, False),
            ):
                token = issuer.token(**({"iat": now - 60, "aud": audience} | times))
                response = await service.public.post(
                    "/auth/introspect", data={"token": token}, auth=("api", secret)
                )
                assert response.json()["active"] is active, (audience, times)


def test_the_service_signs_no_token_that_lives_longer_than_verifiers_accept(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="ACCESS_TOKEN_SECONDS"):
        make_settings(
            "redis://x", "http://x", tmp_path, access_token_seconds=600, token_max_lifetime_seconds=300
        )


async def test_the_published_keys_are_public_distinct_and_say_what_they_are_for(service: Service) -> None:
    response = await service.public.get("/.well-known/jwks.json")
    keys = response.json()["keys"]
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert re.fullmatch(r"public, max-age=\d+", response.headers["cache-control"])
    assert len({key["kid"] for key in keys}) == len(keys) == 2
    for key in keys:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")


async def test_keys_that_are_held_already_are_not_sent_again(service: Service) -> None:
    first = await service.public.get("/.well-known/jwks.json")
    etag = first.headers["etag"]
    # A proxy that compresses makes a weak one of it.
    names_it = (etag, f"W/{etag}", f'"another", {etag}', f'"another" ,W/{etag}', "*")
    for condition in (*names_it, '"another"', "", etag.strip('"')):
        again = await service.public.get("/.well-known/jwks.json", headers={"if-none-match": condition})
        status = 304 if condition in names_it else 200
        assert (again.status_code, again.headers["etag"]) == (status, etag), condition
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert again.content == (b"" if status == 304 else first.content)
    lines = [("if-none-match", '"other"'), ("if-none-match", first.headers["etag"])]
    assert (await service.public.get("/.well-known/jwks.json", headers=lines)).status_code == 304


def test_a_client_of_the_settings_is_called_what_one_of_the_store_may_be_called(
    tmp_path: Path, settings: Settings
) -> None:
    good = {"secret_hashes": ["sha256:" + "0" * 64]}
    for name in ("a b", "é", "", "a/b", "x" * 65, "first-party"):
        with pytest.raises(ValidationError):
            make_settings(settings.redis_url, settings.users_url, tmp_path, clients={name: good})
    for scopes in (["a b"], ["é"], [""], ['"'], ["*"], ["account"]):
        with pytest.raises(ValidationError):
            make_settings(
                settings.redis_url,
                settings.users_url,
                tmp_path,
                clients={"reports": good | {"scopes": scopes}},
            )
    with pytest.raises(ValidationError):
        make_settings(
            settings.redis_url,
            settings.users_url,
            tmp_path,
            clients={"reports": {"secret_hashes": ["plain"]}},
        )
    named = make_settings(settings.redis_url, settings.users_url, tmp_path, clients={"reports": good})
    assert json.loads(named.model_dump_json(include={"clients"}))["clients"].keys() == {"reports"}
