"""The checklist's "OAuth", clause by clause: RFC 6749, 6750, 7009, 7662, 8414 and 9700 over HTTP."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import jwt
import pytest
from conftest import ISSUER, Service, make_settings, started
from people import People
from stored import age_session

from auth_service.clients.models import hash_secret
from service_kit.jwks import parse

FORM = {"content-type": "application/x-www-form-urlencoded"}
ODD_SECRET = "a+b %41:&= é€\U0001f511"
ENDPOINTS = ("/auth/token", "/auth/revoke", "/auth/introspect")


@pytest.fixture
async def service(redis_url: str, people: People, tmp_path: Path) -> AsyncIterator[Service]:
    """With a client of the settings whose secret has whatever a secret may have, and whose name has dots."""
    clients = {
        "odd.client": {
            "secret_hashes": [hash_secret(ODD_SECRET)],
            "scopes": ["a", "b"],
            "audiences": ["users"],
        }
    }
    async with started(make_settings(redis_url, people.url, tmp_path, clients=clients)) as running:
        yield running


def basic(name: str, secret: str) -> dict[str, str]:
    """RFC 6749, section 2.3.1: both are form-encoded first."""
    return written(f"{quote_plus(name)}:{quote_plus(secret)}".encode())


def written(credentials: bytes) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(credentials).decode()}"}


ODD = basic("odd.client", ODD_SECRET)
CLIENT_TOKEN = {"grant_type": "client_credentials"}


def sign_in_form(**more: str) -> dict[str, str]:
    return {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD, **more}


def said(response: httpx.Response) -> tuple[int, str]:
    """An OAuth error (RFC 6749, section 5.2): its status and `error`."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store", response.text
    body = response.json()
    assert body.keys() == {"error", "error_description", "code"}
    # The characters that section 5.2 allows.
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", body["error_description"])
    return response.status_code, body["error"]


# 1: the token endpoint


async def test_only_a_posted_form_is_read(service: Service) -> None:
    for path in ENDPOINTS:
        for body, media_type in (
            (json.dumps(sign_in_form()), "application/json"),
            ("--x\r\n", "multipart/form-data; boundary=x"),
            ("grant_type=password", "text/plain"),
            ("grant_type=password", ""),
        ):
            response = await service.public.post(path, content=body, headers={"content-type": media_type})
            assert said(response) == (400, "invalid_request"), (path, media_type)
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            response = await service.public.request(method, path, params=sign_in_form())
            assert (response.status_code, response.headers["allow"]) == (405, "POST"), (path, method)
        response = await service.public.post(path, params={**sign_in_form(), "token": "x"}, headers=FORM)
        assert said(response)[0] == (401 if path == "/auth/introspect" else 400), "a query is no form"


async def test_a_forms_media_type_is_read_as_http_says(service: Service) -> None:
    for media_type in (f"{FORM['content-type']};charset=utf-8", "Application/X-WWW-Form-URLEncoded"):
        body = urlencode(sign_in_form())
        response = await service.public.post(
            "/auth/token", content=body, headers={"content-type": media_type}
        )
        assert response.status_code == 200, media_type


async def test_a_parameter_comes_once(service: Service) -> None:
    for path in ENDPOINTS:
        for form in (
            "grant_type=password&grant_type=password",
            "unknown=a&unknown=b",
            "token=a&token=a",
            "scope=&scope=",
            "a&a",
            "token=a&%74oken=b",
        ):
            response = await service.public.post(path, content=form, headers=FORM)
            assert said(response) == (400, "invalid_request"), (path, form)


async def test_a_form_that_cannot_be_read_is_refused(service: Service) -> None:
    many = "&".join(f"a{number}=" for number in range(51))
    for form in ("a=%ff", "a=\xe9", "a=%ed%a0%80", many, "a=" + "x" * 70_000):
        response = await service.public.post("/auth/token", content=form.encode("latin-1"), headers=FORM)
        assert said(response) == (400, "invalid_request"), form[:20]


async def test_an_empty_parameter_is_absent(service: Service) -> None:
    for missing in ("grant_type", "username", "password"):
        absent = {name: value for name, value in sign_in_form().items() if name != missing}
        for form in (absent, {**absent, missing: ""}):
            assert said(await service.public.post("/auth/token", data=form)) == (400, "invalid_request"), form


async def test_an_unknown_parameter_and_an_empty_optional_one_are_ignored(service: Service) -> None:
    form = sign_in_form(scope="", client_id="", client_secret="", audience="", colour="blue")
    response = await service.public.post("/auth/token", data=form)
    assert response.status_code == 200
    assert response.json()["scope"] == "*"


async def test_no_answer_may_be_stored(service: Service, people: People) -> None:
    grant = await service.public.post("/auth/token", data=sign_in_form())
    responses = [
        grant,
        await service.refresh(grant.json()["refresh_token"]),
        await service.public.post("/auth/token", data=CLIENT_TOKEN, headers=ODD),
        await service.public.post("/auth/introspect", data={"token": "x"}, headers=ODD),
        await service.public.post("/auth/revoke", data={"token": "x"}),
        await service.public.post("/auth/token", data=sign_in_form(password="wrong")),
        await service.public.post("/auth/token", data=CLIENT_TOKEN),
    ]
    async with service.client(grant.json()["access_token"]) as client:
        responses.append(await client.get("/auth/verify"))
    people.status = 500
    responses.append(await service.public.post("/auth/token", data=sign_in_form()))
    assert [response.status_code for response in responses] == [200, 200, 200, 200, 200, 400, 400, 204, 503]
    assert {response.headers.get("cache-control") for response in responses} == {"no-store"}


async def test_a_client_that_failed_by_basic_is_challenged_with_basic(service: Service) -> None:
    for path in ENDPOINTS:
        for headers in (
            basic("odd.client", "wrong"),
            basic("odd.client", ""),
            basic("nobody", "x"),
            basic("first-party", "x"),
            basic("", "x"),
            written(f"odd.client:{ODD_SECRET}".encode()),  # not form-encoded, so it says something else
            written(b"odd.client"),
        ):
            response = await service.public.post(path, data={"token": "x", **CLIENT_TOKEN}, headers=headers)
            assert said(response) == (401, "invalid_client"), (path, headers)
            assert response.headers["www-authenticate"].startswith("Basic ")


async def test_a_client_that_failed_by_its_form_is_challenged_too(service: Service) -> None:
    for path in ENDPOINTS:
        for form in (
            {"client_id": "odd.client", "client_secret": "wrong"},
            {"client_id": "odd.client"},
            {"client_id": "nobody", "client_secret": "x"},
            {"client_id": "first-party", "client_secret": "x"},
            {"client_secret": "x"},
        ):
            response = await service.public.post(path, data={"token": "x", **CLIENT_TOKEN, **form})
            assert said(response) == (401, "invalid_client"), (path, form)
            assert response.headers["www-authenticate"], "RFC 9110, section 15.5.2: every 401 has one"


async def test_whoever_must_wait_is_told_so_in_oauths_words(service: Service) -> None:
    responses = [
        await service.public.post("/auth/token", data=sign_in_form(password="wrong")) for _ in range(12)
    ]
    assert {said(response) for response in responses} == {(400, "invalid_grant"), (429, "invalid_grant")}
    assert all(
        int(response.headers["retry-after"]) > 0 for response in responses if response.status_code == 429
    )


async def test_both_parts_of_basic_are_form_decoded(service: Service) -> None:
    for name in ("odd.client", "odd%2Eclient", "%6F%64%64.client"):
        for scheme in ("Basic", "basic", "BASIC"):
            credentials = base64.b64encode(f"{name}:{quote_plus(ODD_SECRET)}".encode()).decode()
            headers = {"authorization": f"{scheme} {credentials}"}
            response = await service.public.post("/auth/token", data=CLIENT_TOKEN, headers=headers)
            assert response.status_code == 200, headers
            claims = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
            assert claims["client_id"] == "odd.client"


async def test_a_client_authenticates_in_one_way(service: Service) -> None:
    twice = [("authorization", ODD["authorization"]), ("authorization", basic("", "")["authorization"])]
    for form, headers in (
        ({"client_id": "odd.client", "client_secret": ODD_SECRET}, ODD),
        ({"client_secret": ODD_SECRET}, ODD),
        ({"client_id": "first-party"}, ODD),
        ({}, twice),
    ):
        response = await service.public.post("/auth/token", data={**CLIENT_TOKEN, **form}, headers=headers)
        assert said(response) == (400, "invalid_request")
    form = {**CLIENT_TOKEN, "client_id": "odd.client"}
    assert (await service.public.post("/auth/token", data=form, headers=ODD)).status_code == 200


async def test_client_credentials_give_no_refresh_token_and_are_for_clients_with_a_secret(
    service: Service,
) -> None:
    response = await service.public.post("/auth/token", data=CLIENT_TOKEN, headers=ODD)
    assert response.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert said(await service.public.post("/auth/token", data=CLIENT_TOKEN)) == (400, "unauthorized_client")


async def test_a_scope_that_was_not_granted_or_is_none_is_refused(service: Service) -> None:
    for scope in ("c", "a c", "*", "a *", 'a"', "a\\", "a\tb", "é", "\0", "a " * 600):
        response = await service.public.post(
            "/auth/token", data={**CLIENT_TOKEN, "scope": scope}, headers=ODD
        )
        assert said(response) == (400, "invalid_scope"), scope


async def test_who_may_ask_for_everything_may_not_ask_for_what_is_no_scope(service: Service) -> None:
    """Such a token would be signed, and then refused by every verifier."""
    many = " ".join(map(str, range(400)))
    for scope in ('a"', "a\\", "a\tb", "a\nb", "é", "\u2003", "\0", "a" * 129, many):
        response = await service.public.post("/auth/token", data=sign_in_form(scope=scope))
        assert said(response) == (400, "invalid_scope"), scope


async def test_every_token_that_is_issued_is_accepted(service: Service) -> None:
    for scope in ("*", "a", "a b", "a  b", " a", "b a b", "x:y/z", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"):
        grant = await service.sign_in(scope=scope)
        assert set(grant["scope"].split(" ")) == set(scope.split())
        async with service.client(grant["access_token"]) as client:
            assert (await client.get("/auth/verify")).status_code == 204


# 2: bearer tokens


async def test_the_case_of_the_scheme_does_not_matter(service: Service) -> None:
    token = (await service.sign_in())["access_token"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        response = await service.public.get("/auth/verify", headers={"authorization": f"{scheme} {token}"})
        assert response.status_code == 204


async def test_a_token_comes_by_the_header_alone(service: Service) -> None:
    token = (await service.sign_in())["access_token"]
    header = {"authorization": f"Bearer {token}"}
    for response in (
        await service.public.get("/auth/verify", params={"access_token": token}),
        await service.public.get("/auth/verify", params={"access_token": token}, headers=header),
        await service.public.request(
            "DELETE", "/auth/sessions", data={"access_token": token}, headers=header
        ),
    ):
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    async with service.client(token) as client:
        assert (await client.get("/auth/verify")).status_code == 204  # nothing was ended


async def test_every_protected_route_of_the_document_challenges_who_shows_nothing_or_a_bad_token(
    service: Service,
) -> None:
    document = (await service.public.get("/openapi.json")).json()
    protected = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    ]
    assert len(protected) == 4
    for method, path in protected:
        address = path.replace("{session_id}", "s" * 22)
        response = await service.public.request(method, address)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), path
        assert response.json()["code"] == "not_authenticated"
        response = await service.public.request(method, address, headers={"authorization": "Bearer a.b.c"})
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


async def test_a_missing_scope_is_named_and_cannot_break_the_header(service: Service) -> None:
    token = (await service.sign_in(scope="a"))["access_token"]
    async with service.client(token) as client:
        response = await client.get("/auth/verify", params={"scope": ["a", "b"]})
        assert response.status_code == 403
        assert response.headers["www-authenticate"].endswith('scope="a b"')
        assert (await client.get("/auth/sessions")).headers["www-authenticate"].endswith('scope="sessions"')
        for scope in ('b", realm="x', "b\r\nX-Other: y", "\u20ac", "a b", ""):
            response = await client.get("/auth/verify", params={"scope": scope})
            assert response.status_code == 422, scope
            assert "x-other" not in response.headers


# 3: revocation


async def test_revoking_what_is_no_token_of_ours_is_no_error(service: Service) -> None:
    for token in ("unknown", "a.b.c", "a.b.c.d", f"{'s' * 22}.0.0.{'A' * 43}", "\u20ac", "x" * 60_000):
        for hint in ("", "access_token", "refresh_token", "unheard_of"):
            response = await service.public.post(
                "/auth/revoke", data={"token": token, "token_type_hint": hint}
            )
            assert (response.status_code, response.content) == (200, b"")
    assert said(await service.public.post("/auth/revoke", data={"token_type_hint": "x"})) == (
        400,
        "invalid_request",
    )


async def test_only_the_owning_client_revokes_either_token(service: Service) -> None:
    grant = await service.sign_in()
    own = (await service.public.post("/auth/token", data=CLIENT_TOKEN, headers=ODD)).json()["access_token"]
    for token, headers in (
        (grant["refresh_token"], ODD),
        (grant["access_token"], ODD),
        (own, {}),
        (own, basic("", "")),
    ):
        response = await service.public.post("/auth/revoke", data={"token": token}, headers=headers)
        assert said(response) == (400, "invalid_grant")
        assert response.json()["code"] == "wrong_client"
    for token in (grant["access_token"], own):
        async with service.client(token) as client:
            assert (await client.get("/auth/verify")).status_code == 204
    assert (await service.refresh(grant["refresh_token"])).status_code == 200


async def test_revoking_either_token_ends_both_and_every_earlier_access_token(service: Service) -> None:
    for revoked in ("refresh_token", "access_token"):
        for hint in ("", "refresh_token", "access_token"):  # whatever it says
            first = await service.sign_in()
            second = (await service.refresh(first["refresh_token"])).json()
            form = {"token": second[revoked], "token_type_hint": hint}
            assert (await service.public.post("/auth/revoke", data=form)).status_code == 200
            for grant in (first, second):
                await service.until_refused(grant["access_token"], "session_revoked")
                assert (await service.refresh(grant["refresh_token"])).json()["code"] == "session_ended"


async def test_revoking_once_more_is_no_error_and_ends_nothing_else(service: Service) -> None:
    grant, other = await service.sign_in(), await service.sign_in()
    for _ in range(2):
        for token in (grant["refresh_token"], grant["access_token"]):
            response = await service.public.post("/auth/revoke", data={"token": token})
            assert (response.status_code, response.content) == (200, b"")
    assert (await service.refresh(other["refresh_token"])).status_code == 200


async def test_a_client_revokes_its_own_token_for_another_audience(service: Service) -> None:
    form = {**CLIENT_TOKEN, "audience": "users"}
    token = (await service.public.post("/auth/token", data=form, headers=ODD)).json()["access_token"]
    asked = {"data": {"token": token}, "headers": ODD}
    assert (await service.public.post("/auth/introspect", **asked)).json()["active"] is True  # type: ignore[arg-type] # data, headers
    assert (await service.public.post("/auth/revoke", **asked)).status_code == 200  # type: ignore[arg-type] # data, headers
    async with asyncio.timeout(5):
        while (await service.public.post("/auth/introspect", **asked)).json()["active"]:  # type: ignore[arg-type] # data, headers
            await asyncio.sleep(0.01)


# 4: introspection


async def test_whoever_introspects_shows_a_secret(service: Service) -> None:
    form = {"token": (await service.sign_in())["access_token"]}
    for response in (
        await service.public.post("/auth/introspect", data=form),
        await service.public.post("/auth/introspect", data=form, headers=basic("", "")),
        await service.public.post("/auth/introspect", data={**form, "client_id": "first-party"}),
        await service.public.post("/auth/introspect", data={**form, "client_id": "odd.client"}),
        await service.public.post(
            "/auth/introspect", data=form, headers={"authorization": f"Bearer {form['token']}"}
        ),
    ):
        assert said(response) == (401, "invalid_client")
    posted = {**form, "client_id": "odd.client", "client_secret": ODD_SECRET}
    assert (await service.public.post("/auth/introspect", data=posted)).json()["active"] is True


async def test_what_is_not_active_is_said_in_exactly_these_bytes(service: Service) -> None:
    grant = await service.sign_in()
    await service.public.post("/auth/revoke", data={"token": grant["access_token"]})
    await service.until_refused(grant["access_token"], "session_revoked")
    for token in (grant["access_token"], grant["refresh_token"], "a.b.c", "unknown", "\u20ac"):
        response = await service.public.post("/auth/introspect", data={"token": token}, headers=ODD)
        assert (response.status_code, response.content) == (200, b'{"active":false}')


async def test_a_client_hears_nothing_of_a_token_that_is_for_somebody_elses_service(service: Service) -> None:
    secret = await service.parts.clients.register("others", set(), {"orders"})
    form = {**CLIENT_TOKEN, "audience": "users"}
    token = (await service.public.post("/auth/token", data=form, headers=ODD)).json()["access_token"]
    for headers, active in ((ODD, True), (basic("others", secret), False)):
        response = await service.public.post("/auth/introspect", data={"token": token}, headers=headers)
        assert response.json()["active"] is active
    assert response.content == b'{"active":false}'


# 5: metadata


async def test_all_that_the_metadata_advertises_works(service: Service) -> None:
    response = await service.public.get("/.well-known/oauth-authorization-server")
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert told.pop("issuer") == ISSUER

    def path(name: str) -> str:
        address: str = told.pop(name)
        assert address.startswith(f"{ISSUER}/")
        return address.removeprefix(ISSUER)

    token, revoke, introspect = (
        path(f"{name}_endpoint") for name in ("token", "revocation", "introspection")
    )
    keys = parse((await service.public.get(path("jwks_uri"))).json())

    as_client: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "client_secret_basic": ({}, ODD),
        "client_secret_post": ({"client_id": "odd.client", "client_secret": ODD_SECRET}, {}),
        "none": ({"client_id": "first-party"}, {}),
    }
    grants: dict[str, dict[str, str]] = {
        "password": sign_in_form(),
        "client_credentials": CLIENT_TOKEN,
        "refresh_token": {
            "grant_type": "refresh_token",
            "refresh_token": (await service.sign_in())["refresh_token"],
        },
    }
    methods = told.pop("token_endpoint_auth_methods_supported")
    issued = []
    for grant in told.pop("grant_types_supported"):
        worked = [
            response.json()["access_token"]
            for form, headers in map(as_client.__getitem__, methods)
            if (
                response := await service.public.post(token, data={**grants[grant], **form}, headers=headers)
            ).status_code
            == 200
        ]
        assert len(worked) == (2 if grant == "client_credentials" else 1), grant
        issued += worked
    for each in issued:
        header = jwt.get_unverified_header(each)
        assert jwt.decode(each, keys[header["kid"]], [header["alg"]], audience=ISSUER)["iss"] == ISSUER
    for method in told.pop("introspection_endpoint_auth_methods_supported"):
        form, headers = as_client[method]
        response = await service.public.post(introspect, data={"token": issued[0], **form}, headers=headers)
        assert response.json()["active"] is True
    for method in told.pop("revocation_endpoint_auth_methods_supported"):
        form, headers = as_client[method]
        response = await service.public.post(revoke, data={"token": "unknown", **form}, headers=headers)
        assert response.status_code == 200
    assert told.pop("response_types_supported") == []  # there is no authorization endpoint
    assert not told, "an advertised thing that nobody has tried"


# 6: refresh


async def test_a_refresh_token_is_bound_to_its_client_and_its_scope(service: Service) -> None:
    grant = await service.sign_in(scope="a b")
    stolen = await service.public.post(
        "/auth/token",
        data={"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]},
        headers=ODD,
    )
    assert said(stolen) == (400, "invalid_grant")
    assert stolen.json()["code"] == "wrong_client"
    for wider in ("a b c", "*", "c"):
        assert said(await service.refresh(grant["refresh_token"], scope=wider)) == (400, "invalid_scope")
    narrower = (await service.refresh(grant["refresh_token"], scope="b")).json()
    assert narrower["scope"] == "b"
    async with service.client(narrower["access_token"]) as client:
        assert (await client.get("/auth/verify", params={"scope": "a"})).status_code == 403
    # Section 6: the scope of the refresh token itself stays that of the one before.
    assert (await service.refresh(narrower["refresh_token"])).json()["scope"] == "a b"


async def test_a_session_ends_without_use_and_in_any_case(
    redis_url: str, people: People, tmp_path: Path, redis: Any
) -> None:
    settings = make_settings(
        redis_url, people.url, tmp_path, session_idle_seconds=1000, session_absolute_seconds=1500
    )
    async with started(settings) as service:
        token = (await service.sign_in())["refresh_token"]
        key = f"auth:session:{token.split('.')[0]}"
        assert 990 < await redis.ttl(key) <= 1000
        await redis.pexpire(key, 400_000)
        token = (await service.refresh(token)).json()["refresh_token"]
        assert 990 < await redis.ttl(key) <= 1000, "each use begins the idle time anew"
        await age_session(redis, token.split(".")[0], 1000)
        token = (await service.refresh(token)).json()["refresh_token"]
        assert 490 < await redis.ttl(key) <= 500, "but no use moves the absolute end"
        await redis.pexpire(key, 1)
        async with asyncio.timeout(5):
            while await redis.exists(key):
                await asyncio.sleep(0.001)
        assert (await service.refresh(token)).json()["code"] == "session_ended"


async def test_shortening_sessions_loses_sight_of_none_that_began_before(
    redis_url: str, people: People, tmp_path: Path, redis: Any
) -> None:
    for absolute in (900_000, 600):
        settings = make_settings(redis_url, people.url, tmp_path, session_absolute_seconds=absolute)
        async with started(settings) as service:
            await service.sign_in()
    [index] = [key async for key in redis.scan_iter("auth:sessions:*")]
    assert await redis.ttl(index) > 800_000


# 7: the password grant


async def test_the_password_grant_is_the_first_party_clients_alone(service: Service) -> None:
    response = await service.public.post("/auth/token", data=sign_in_form(), headers=ODD)
    assert said(response) == (400, "unauthorized_client")


async def test_an_empty_basic_header_means_the_first_party_client(service: Service) -> None:
    for value in ("Basic", "Basic ", "Basic Og==", "basic Og=="):
        response = await service.public.post(
            "/auth/token", data=sign_in_form(), headers={"authorization": value}
        )
        assert response.status_code == 200, value


async def test_the_password_grant_can_be_switched_off_and_what_was_signed_in_goes_on(
    redis_url: str, people: People, tmp_path: Path
) -> None:
    async with started(make_settings(redis_url, people.url, tmp_path)) as service:
        grant = await service.sign_in()
    async with started(make_settings(redis_url, people.url, tmp_path, grant_password=False)) as service:
        response = await service.public.post("/auth/token", data=sign_in_form())
        assert said(response) == (400, "unsupported_grant_type")
        told = (await service.public.get("/.well-known/oauth-authorization-server")).json()
        assert told["grant_types_supported"] == ["refresh_token", "client_credentials"]
        document = (await service.public.get("/openapi.json")).json()
        assert document["components"]["securitySchemes"]["oauth2"]["flows"] == {}
        assert (await service.refresh(grant["refresh_token"])).status_code == 200
    assert not any(request.url.path.endswith("/verify") for request in people.requests[1:])


def test_the_documentation_says_why_the_password_grant_can_be_switched_off() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    assert "RFC 9700" in readme
    assert "GRANT_PASSWORD=off" in readme
