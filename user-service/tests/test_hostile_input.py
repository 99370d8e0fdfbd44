"""What strangers and neighbours try at every route that the contract names."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import PASSWORD, Service

from user_service.contract import document
from user_service.main import Parts

CANARY = "canary-3f1c9d-value"
CONTRACT: dict[str, Any] = json.loads(document())


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in CONTRACT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def body_schema(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    schema: dict[str, Any] = content["schema"]
    if "$ref" in schema:
        schema = CONTRACT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


WITH_BODIES = [
    pytest.param(method, path, schema, id=f"{method} {path}")
    for method, path, operation in operations()
    if (schema := body_schema(operation))
]
ABOUT_SOMEBODY = [
    pytest.param(method, path, id=f"{method} {path}") for method, path, _ in operations() if "{id}" in path
]


@pytest.mark.parametrize(("method", "path", "schema"), WITH_BODIES)
async def test_a_neighbour_without_a_token_has_little_held(
    service: Service, method: str, path: str, schema: dict[str, Any]
) -> None:
    """A body is read before the token is looked at; four hundred of 1 MiB that do not end were a container's memory."""
    url = path.format(id="019ab1d0-0000-7000-8000-000000000000", kind="verify-address")
    body = json.dumps(dict.fromkeys(schema["properties"], "a" * 17_000))
    response = await service.anonymous.request(
        method, url, content=body, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large"), response.text


@pytest.mark.parametrize(("method", "path", "schema"), WITH_BODIES)
async def test_a_body_that_is_refused_comes_back_in_no_answer_and_no_log(
    service: Service, caplog: pytest.LogCaptureFixture, method: str, path: str, schema: dict[str, Any]
) -> None:
    ada = await service.register()
    caplog.set_level(logging.DEBUG)
    admin = service.admin()
    url = path.format(id=ada.id, kind="verify-address")
    full = dict.fromkeys(schema["properties"], CANARY)
    spoilt: list[Any] = [full | {name: {CANARY: [CANARY]}} for name in full]
    spoilt += [{other: CANARY for other in full if other != name} for name in schema.get("required", ())]
    spoilt += [full | {"surplus": CANARY}, [full], CANARY, f'{{"password": "{CANARY}'.encode()]
    for body in spoilt:
        content = body if isinstance(body, bytes) else json.dumps(body)
        sent = {"Content-Type": "application/json", "If-Match": ada.etag}
        response = await admin.request(method, url, content=content, headers=sent)
        assert response.status_code == (400 if isinstance(body, bytes) else 422), (body, response.text)
        assert CANARY not in response.text + str(response.headers)
    assert CANARY not in caplog.text


@pytest.mark.parametrize(("method", "path", "schema"), WITH_BODIES)
async def test_no_route_takes_a_member_that_is_there_twice(
    service: Service, method: str, path: str, schema: dict[str, Any]
) -> None:
    ada = await service.register()
    url = path.format(id=ada.id, kind="verify-address")
    for name in schema["properties"]:
        response = await service.admin().request(
            method,
            url,
            content=f'{{"{name}": "{CANARY}", "{name}": "{CANARY}"}}',
            headers={"Content-Type": "application/json", "If-Match": ada.etag},
        )
        assert (response.status_code, response.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        {"password": CANARY},
        {"email": CANARY},
        {"email": 5, "password": CANARY},
        {"email": CANARY, "password": {CANARY: 5}},
        {"email": CANARY, "password": CANARY, f"{CANARY}!": CANARY},
        {"email": CANARY, "password": CANARY * 100},
    ],
)
async def test_nor_does_a_password_that_is_to_be_checked(
    service: Service, caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    response = await service.auth_service().post("/internal/v1/credentials/verify", json=body)
    assert response.status_code == 422
    assert CANARY not in response.text + str(response.headers) + caplog.text


@pytest.mark.parametrize(("method", "path"), ABOUT_SOMEBODY)
async def test_what_is_somebody_elses_is_refused_and_untouched(
    service: Service, parts: Parts, method: str, path: str
) -> None:
    ada, eve = await service.register(), await service.register()
    bodies: dict[str, Any] = {"PATCH": {"name": "Eve was here"}, "PUT": {"roles": ["admin"]}}
    before = await parts.users.find(ada.id)
    for headers in ({}, {"If-Match": ada.etag}):
        response = await eve.client.request(
            method, path.format(id=ada.id), json=bodies.get(method), headers=headers
        )
        assert response.status_code in (403, 404), response.text
        assert ada.email not in response.text
    assert await parts.users.find(ada.id) == before


async def test_no_answer_holds_a_hash(service: Service, parts: Parts) -> None:
    ada = await service.register()
    password_hash = (await parts.users.find(ada.id)).password_hash
    assert password_hash
    for client in (ada.client, service.admin()):
        for method, path, _ in operations():
            if method == "GET":
                response = await client.get(path.format(id=ada.id, kind="verify-address"))
                assert "argon2" not in response.text + str(response.headers), path
                assert password_hash.rpartition("$")[2] not in response.text
    shown = (await ada.client.get("/v1/users/me")).json()
    assert not {name for name in shown if "hash" in name or "password" in name or "cv" in name}
    assert "argon2" not in str(await service.verify(ada.email))


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1000000000000", "1e3", "NaN", ""])
async def test_a_page_has_a_size_between_one_and_two_hundred(service: Service, limit: str) -> None:
    ada = await service.register()
    for path in ("/v1/users", f"/v1/users/{ada.id}/audit"):
        assert (await service.admin().get(path, params={"limit": limit})).status_code == 422


@pytest.mark.parametrize(
    "name", ["a\nb", "a\u2028b", "\u202egnp.exe", "a\u2066b", "\ufeff", "\u200b\u200d", "\u0301", "  "]
)
async def test_a_name_is_one_piece_of_text_that_can_be_seen(service: Service, name: str) -> None:
    """Nothing in it ends a line of a log or a mail, or turns what stands behind it about."""
    body = {"email": "ada@example.com", "name": name, "password": PASSWORD}
    refused = await service.anonymous.post("/v1/users", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "name")


@pytest.mark.parametrize(
    "name", ["Zoë", "山田 太郎", "محمد", "👩\u200d💻", "O’Neil-Smith", "नेहा", "<b>&amp;"]
)
async def test_people_have_the_names_they_have(service: Service, name: str) -> None:
    body = {"email": "ada@example.com", "name": name, "password": PASSWORD}
    registered = await service.anonymous.post("/v1/users", json=body)
    assert (registered.status_code, registered.json()["name"]) == (201, name)


@pytest.mark.parametrize("change", [{"roles": ["admin"]}, {"status": "active"}, {"email_verified": True}])
async def test_rights_cannot_be_slipped_into_any_body(service: Service, change: dict[str, Any]) -> None:
    ada = await service.register()
    for method, path, operation in operations():
        schema = body_schema(operation)
        if schema is None or not schema["properties"].keys().isdisjoint(change):
            continue
        body = dict.fromkeys(schema.get("required", ()), PASSWORD) | change
        url = path.format(id=ada.id, kind="verify-address")
        response = await ada.client.request(method, url, json=body, headers={"If-Match": ada.etag})
        assert response.status_code in (403, 422), (method, path, response.text)
    me = (await ada.client.get("/v1/users/me")).json()
    assert (me["roles"], me["status"], me["email_verified"]) == ([], "active", False)
