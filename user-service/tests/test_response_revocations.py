"""Every response to a change that raises a person's version names the person for the gateway, once it is committed."""

import ast
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import PASSWORD, Service
from httpx import Response
from inbox import Post
from test_account_links import NEW_PASSWORD, changed, state

import user_service
from service_kit.response_revocations import HEADER, read
from service_kit.revocations import Revocation
from user_service.config import Settings
from user_service.database import DatabaseUnavailable
from user_service.main import Parts


def named(response: Response) -> list[Revocation]:
    value = response.headers.get(HEADER)
    return read([value.encode()]) if value else []


async def names_the_version(service: Service, user_id: UUID, response: Response, life: float) -> int:
    """The person's present version, which is what the response names."""
    assert response.is_success, response.text
    version = int(str((await state(service, user_id))["credentials_version"]))
    [revocation] = named(response)
    assert (revocation.kind, revocation.value) == ("subject", str(user_id))
    assert revocation.credentials_version == version
    assert time.time() + life - 10 < revocation.until <= time.time() + life + 1
    return version


async def test_every_change_that_ends_sessions_or_takes_rights_names_the_person(
    service: Service, settings: Settings
) -> None:
    life = settings.token_max_lifetime_seconds + settings.token_leeway_seconds
    admin, ada = service.admin(), await service.register()
    version = int(str((await state(service, ada.id))["credentials_version"]))
    path = f"/v1/users/{ada.id}"
    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}

    async def roles() -> Response:
        etag = (await admin.get(path)).headers["etag"]
        return await admin.put(f"{path}/roles", json={"roles": ["support"]}, headers={"If-Match": etag})

    asks: list[Callable[[], Awaitable[Response]]] = [
        lambda: ada.client.post("/v1/users/me/password", json=passwords),
        roles,
        lambda: admin.post(f"{path}/disable"),
        lambda: admin.delete(path),
    ]
    for ask in asks:
        raised = await names_the_version(service, ada.id, await ask(), life)
        assert raised == version + 1
        version = raised
    # Asked again, perhaps through another gateway after a lost answer: nothing changes, and it is named again.
    assert await names_the_version(service, ada.id, await admin.delete(path), life) == version


async def test_so_do_a_reset_and_an_undone_change_of_address(
    service: Service, post: Post, settings: Settings
) -> None:
    life = settings.token_max_lifetime_seconds + settings.token_leeway_seconds
    user_id, undo = await changed(service, post)
    links = "/v1/users/links"
    undone = await service.anonymous.post(f"{links}/undo-change", json={"token": undo})
    version = await names_the_version(service, user_id, undone, life)
    token = await post.token("old@example.com", "reset-password")
    body = {"token": token, "password": NEW_PASSWORD}
    reset = await service.anonymous.post(f"{links}/reset-password", json=body)
    assert await names_the_version(service, user_id, reset, life) == version + 1
    assert not named(await service.anonymous.post(f"{links}/reset-password", json=body)), "a used link"


async def test_what_was_refused_or_not_committed_names_nobody(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, ada = service.admin(), await service.register()
    path = f"/v1/users/{ada.id}"
    wrong = {"current_password": NEW_PASSWORD, "new_password": NEW_PASSWORD}
    refused = await ada.client.post("/v1/users/me/password", json=wrong)
    assert refused.is_client_error
    assert not named(refused)
    assert not named(await ada.client.delete(path)), "not an administrator"

    async def lost(*_: Any) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(parts.database, "_transacting", lost)
    for response in (await admin.post(f"{path}/disable"), await admin.delete(path)):
        assert response.status_code == 503
        assert not named(response)


def test_nothing_else_raises_a_version() -> None:
    """Who adds a change that does: its response names the person, and this list is longer."""
    raising: set[str] = set()
    for file in Path(user_service.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                called = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
                if called & {"with_sessions_ended", "with_roles"}:
                    raising.add(f"{file.parent.name}.{node.name}")
    assert raising - {"users.deleted", "users.disabled"} == {
        "credentials._replace_password",
        "account_links._undo",
        "account_links._reset",
        "users.delete",
        "users.disable",
        "users._set_roles",
        "user_service._grant_admin",  # a command: no gateway tells of it
    }
