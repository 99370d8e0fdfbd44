"""The audit is only ever added to: the database refuses anything else, and erasing takes the person out of it."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Service
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

import user_service
from service_kit.authenticator import Authenticator
from service_kit.testing import TestIssuer
from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.config import Settings
from user_service.database import DatabaseUnavailable
from user_service.main import Parts, create_app
from user_service.pagination import encode_cursor
from user_service.users.models import utc_now


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit",
        "UPDATE audit SET action = 'user.nothing'",
        "UPDATE audit SET details = '{}' WHERE action = 'user.updated'",
        "UPDATE audit SET at = '2020-01-01 00:00:00'",
        "UPDATE audit SET request_id = 'another'",
        "UPDATE audit SET address = '192.0.2.1'",
    ],
)
async def test_the_database_refuses_to_rewrite_the_audit(
    service: Service, parts: Parts, statement: str
) -> None:
    ada = await service.register()
    await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers={"If-Match": ada.etag})
    before = (await service.admin().get(f"/v1/users/{ada.id}/audit")).json()

    async def rewrite(connection: AsyncConnection) -> None:
        await connection.execute(text(statement))

    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        await parts.database.transaction(rewrite)
    assert (await service.admin().get(f"/v1/users/{ada.id}/audit")).json() == before
    assert len(before["items"]) == 2


def test_only_erasing_updates_the_audit() -> None:
    code = Path(user_service.__file__).parent
    sources = {file.relative_to(code).as_posix(): file.read_text() for file in code.rglob("*.py")}
    assert [name for name, source in sources.items() if "delete(AuditRow" in source] == []
    assert [name for name, source in sources.items() if "update(AuditRow" in source] == [
        "audit/repository.py"
    ]


async def test_an_erased_person_is_nobody_in_what_they_did_and_what_was_done_to_them(
    service: Service, parts: Parts
) -> None:
    ada, admin = await service.register(), service.admin()
    await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers={"If-Match": ada.etag})
    await admin.delete(f"/v1/users/{ada.id}")
    await admin.post(f"/v1/users/{ada.id}/erase")
    rows = await parts.database.read(
        lambda connection: connection.execute(text("SELECT subject_id, actor, action, address FROM audit"))
    )
    kept = rows.all()
    assert [row.action for row in kept] == ["user.created", "user.updated", "user.deleted", "user.erased"]
    assert ada.id.bytes not in [row.subject_id for row in kept]
    assert len({row.subject_id for row in kept}) == 1
    assert str(ada.id) not in [row.actor for row in kept]
    assert [row.address for row in kept[:2]] == [None, None]


async def test_whoever_has_years_of_records_is_erased_some_at_a_time(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once they would be more than the deadline of a transaction has time for, at every try."""
    monkeypatch.setattr("user_service.users.service.RECORDS_AT_ONCE", 4)
    ada, grace, admin = await service.register(), await service.register(), service.admin()

    async def add(connection: AsyncConnection) -> None:
        by_ada = AuditContext(str(ada.id), "192.0.2.7")
        for _ in range(9):
            await audit.append(connection, by_ada, "user.updated", ada.id, utc_now())
            await audit.append(connection, by_ada, "user.disabled", grace.id, utc_now())
            await audit.append(
                connection, AuditContext("command", "192.0.2.8"), "user.enabled", ada.id, utc_now()
            )

    await parts.database.transaction(add)
    changed: list[int] = []

    def count(*result: Any) -> None:
        if result[2].startswith("UPDATE audit"):
            changed.append(result[1].rowcount)

    await admin.delete(f"/v1/users/{ada.id}")
    event.listen(parts.database.engine.sync_engine, "after_cursor_execute", count)
    assert (await admin.post(f"/v1/users/{ada.id}/erase")).status_code == 204
    assert len(changed) > 7
    assert max(changed) == 4
    query = text("SELECT subject_id, actor, action, address FROM audit")
    kept = (await parts.database.read(lambda connection: connection.execute(query))).all()
    assert len(kept) == 31
    assert ada.id.bytes not in [row.subject_id for row in kept]
    assert str(ada.id) not in [row.actor for row in kept]
    assert len({row.subject_id for row in kept}) == 2
    assert len({row.actor for row in kept if row.action in ("user.updated", "user.disabled")}) == 1
    assert {row.address for row in kept if row.action in ("user.updated", "user.disabled")} == {None}
    assert {row.address for row in kept if row.actor == "command"} == {"192.0.2.8"}


async def test_a_wrong_password_of_who_is_signed_in_is_on_record_at_every_door(service: Service) -> None:
    ada = await service.register()
    doors = {
        "password": {"current_password": "canary-guess", "new_password": "a long enough passphrase"},
        "email": {"password": "canary-guess", "email": "eve@example.com"},
    }
    for door, guess in doors.items():
        assert (await ada.client.post(f"/v1/users/me/{door}", json=guess)).status_code == 403
    told = await service.admin().get(f"/v1/users/{ada.id}/audit")
    records = [(record["action"], record["actor"], record["details"]) for record in told.json()["items"]]
    assert records[:2] == [
        ("user.password_refused", str(ada.id), {"asked": door}) for door in ("email", "password")
    ]
    assert "canary" not in told.text


async def test_an_audit_of_many_records_is_read_page_by_page(service: Service) -> None:
    ada, admin = await service.register(), service.admin()
    for _ in range(4):
        await admin.post(f"/v1/users/{ada.id}/disable")
        await admin.post(f"/v1/users/{ada.id}/enable")
    seen, path = [], f"/v1/users/{ada.id}/audit?limit=2"
    while path:
        page = await admin.get(path)
        seen += [record["action"] for record in page.json()["items"]]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert seen == ["user.enabled", "user.disabled"] * 4 + ["user.created"]
    assert (await ada.client.get(f"/v1/users/{ada.id}/audit")).status_code == 403
    for query in ("cursor=", "cursor=nonsense", f"cursor={encode_cursor('9' * 30)}", "limit=201", "actor=me"):
        assert (await admin.get(f"/v1/users/{ada.id}/audit?{query}")).status_code in (400, 422), query


@pytest.mark.parametrize(
    ("peers", "seen"), [((), "127.0.0.1"), (("127.0.0.1",), "192.0.2.7"), (("192.0.2.0/24",), "127.0.0.1")]
)
async def test_the_audit_tells_the_address_that_the_gateway_saw_and_believes_nobody_else(
    settings: Settings,
    parts: Parts,
    authenticator: Authenticator,
    issuer: TestIssuer,
    peers: tuple[str, ...],
    seen: str,
) -> None:
    told = settings.model_copy(update={"gateway_peers": peers})
    service = Service(create_app(told, parts, authenticator), issuer)
    claimed = {
        "X-Forwarded-For": "198.51.100.1, 192.0.2.7",
        "Forwarded": "for=198.51.100.2",
        "X-Real-IP": "1.1.1.1",
    }
    ada = await service.register(**claimed)
    (record,) = (await service.admin().get(f"/v1/users/{ada.id}/audit")).json()["items"]
    assert (record["action"], record["address"]) == ("user.created", seen)
