"""What a client was granted bounds what its tokens do here, whatever the person may do."""

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Person, Service
from httpx import AsyncClient, Response

from service_kit.testing import TestIssuer
from user_service.cli import make_admin
from user_service.main import public_api

SCOPES = ("users:read", "users:write", "users:admin", "account")
NEEDED = {
    "GET /v1/users": "users:read",
    "GET /v1/users/me": "users:read",
    "GET /v1/users/me/avatar": "users:read",
    "GET /v1/users/{id}": "users:read",
    "GET /v1/users/{id}/avatar": "users:read",
    "PATCH /v1/users/me": "users:write",
    "PATCH /v1/users/{id}": "users:write",
    "PUT /v1/users/me/avatar": "users:write",
    "DELETE /v1/users/me/avatar": "users:write",
    "GET /v1/users/{id}/audit": "users:admin",
    "PUT /v1/users/{id}/roles": "users:admin",
    "POST /v1/users/{id}/disable": "users:admin",
    "POST /v1/users/{id}/enable": "users:admin",
    "POST /v1/users/{id}/restore": "users:admin",
    "DELETE /v1/users/{id}": "users:admin",
    "POST /v1/users/{id}/erase": "account",
    "POST /v1/users/me/password": "account",
    "POST /v1/users/me/email": "account",
}


def narrowed(service: Service, issuer: TestIssuer, scope: str, **claims: Any) -> AsyncClient:
    """An administrator's client whose token carries this scope alone."""
    return service.client(issuer.token(scope=scope, roles=["admin"], **claims))


async def ask(client: AsyncClient, route: str, person: Person) -> Response:
    method, path = route.split()
    return await client.request(method, path.replace("{id}", str(person.id)), json={})


@pytest.mark.parametrize("route", NEEDED)
async def test_a_route_asks_for_its_scope_and_for_no_other(
    service: Service, issuer: TestIssuer, route: str
) -> None:
    ada = await service.register()
    others = " ".join(scope for scope in SCOPES if scope != NEEDED[route])
    for scope in ("orders:read", others):
        refused = await ask(narrowed(service, issuer, scope), route, ada)
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert refused.json()["scope"] == NEEDED[route]
        assert f'scope="{NEEDED[route]}"' in refused.headers["www-authenticate"]
    for scope in (NEEDED[route], "*"):
        response = await ask(narrowed(service, issuer, scope), route, ada)
        assert response.status_code not in (401, 403)


def test_every_route_that_needs_a_token_names_its_scope_in_the_document() -> None:
    document = public_api().openapi()
    stated = {
        f"{method.upper()} {path}": operation["security"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    assert stated == {route: [{"oauth2": [scope]}] for route, scope in NEEDED.items()}


def test_the_gateway_is_told_the_same_scopes() -> None:
    files = (Path(__file__).parents[1] / "routes").glob("*.toml")
    routes = [route for file in files for route in tomllib.loads(file.read_text())["routes"]]
    told = {
        f"{method} {route['path']}": route.get("scopes", [])
        for route in routes
        if route.get("access") != "public"
        for method in route["methods"]
    }
    assert told == {route: [scope] for route, scope in NEEDED.items()}


async def test_a_narrowed_token_of_an_administrator_lists_nobody_and_makes_no_administrator(
    service: Service, issuer: TestIssuer
) -> None:
    ada = await service.register()
    for scope, route in (("orders:read", "GET /v1/users"), ("users:write", "PUT /v1/users/{id}/roles")):
        assert (await ask(narrowed(service, issuer, scope), route, ada)).status_code == 403


async def test_roles_are_changed_within_five_minutes_of_a_sign_in(
    service: Service, issuer: TestIssuer
) -> None:
    ada = await service.register()
    now = int(time.time())
    for auth_time in (now - 301, None):
        administrator = narrowed(service, issuer, "*", auth_time=auth_time)
        refused = await administrator.put(
            f"/v1/users/{ada.id}/roles", json={"roles": ["admin"]}, headers={"If-Match": ada.etag}
        )
        assert (refused.status_code, refused.json()["code"]) == (401, "insufficient_user_authentication")
        challenge = refused.headers["www-authenticate"]
        assert challenge.startswith('Bearer error="insufficient_user_authentication"')
        assert challenge.endswith('max_age="300"')
        assert refused.json()["max_age"] == 300
        # The rest of an administrator's work needs none.
        assert (await administrator.get(f"/v1/users/{ada.id}")).json()["roles"] == []
        assert (await administrator.post(f"/v1/users/{ada.id}/disable")).status_code == 200
        ada.etag = (await administrator.post(f"/v1/users/{ada.id}/enable")).headers["etag"]
    recent = narrowed(service, issuer, "users:admin", auth_time=now - 240)
    changed = await recent.put(
        f"/v1/users/{ada.id}/roles", json={"roles": ["admin"]}, headers={"If-Match": ada.etag}
    )
    assert changed.json()["roles"] == ["admin"]


async def test_who_may_not_change_roles_is_not_asked_to_sign_in_again(
    service: Service, issuer: TestIssuer
) -> None:
    ada = await service.register()
    old = service.client(issuer.token(sub=str(ada.id), auth_time=1))
    refused = await old.put(f"/v1/users/{ada.id}/roles", json={"roles": ["admin"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_role")


async def test_an_operator_is_told_what_speaks_against_a_new_administrator(
    service: Service, serving_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger may have registered the address before its owner did."""
    monkeypatch.setenv("DATABASE_URL", serving_url)
    ada = await service.register("ada@example.com")
    told = (await make_admin("Ada@example.com")).splitlines()
    assert told[0] == f"{ada.id} is an administrator now"
    assert told[1].startswith(
        "nobody has confirmed this address: be sure that its owner registered it, on 20"
    )
    assert len(told) == 2
    await service.register("grace@example.com")
    await make_admin("grace@example.com")
    assert (await service.admin().post(f"/v1/users/{ada.id}/disable")).status_code == 200
    told = (await make_admin("ada@example.com")).splitlines()
    assert (told[0], told[2]) == (f"{ada.id} is an administrator already", "the account is disabled")


async def test_what_an_administrator_reads_of_many_is_kept_nowhere(service: Service) -> None:
    ada = await service.register()
    for path in ("/v1/users", f"/v1/users/{ada.id}/audit"):
        assert (await service.admin().get(path)).headers["cache-control"] == "no-store"
