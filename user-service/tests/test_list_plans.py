"""How MySQL finds what administrators ask for: by an index, in its order, and never by sorting."""

from typing import Any

import pytest
from conftest import Service
from sqlalchemy import event, text

from user_service.imports.seeding import seed
from user_service.main import Parts

pytestmark = pytest.mark.containers

NARROWED = [
    "limit=50",
    "status=active",
    "status=deleted",
    "role=support",
    "role=editor&status=active",
    "role=editor&created_from=2024-01-01T00:00:00Z",
    "created_from=2024-01-01T00:00:00Z&created_before=2025-01-01T00:00:00Z",
    "status=active&created_from=2024-01-01T00:00:00Z",
    "email=grace.hopper.",
    "name=grace%20h",
    "external_id=17",
    "external_id=17&status=active",
]


@pytest.mark.parametrize("empty_database", ["mysql"], indirect=True)
async def test_an_index_serves_every_list_and_nothing_is_sorted(service: Service, parts: Parts) -> None:
    await seed(parts.database, 20_000, lambda _: None)
    # A unique key is looked up while planning: without a row there would be no plan.
    given = text("UPDATE users SET external_id = '17' WHERE status = 'active' LIMIT 1")
    await parts.database.transaction(lambda connection: connection.execute(given))
    await parts.database.read(lambda connection: connection.execute(text("ANALYZE TABLE users, user_roles")))
    sent: list[tuple[str, Any]] = []
    engine = parts.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: sent.append((sql, values)))
    for query in NARROWED:
        page = (await service.admin().get(f"/v1/users?{query}")).json()
        for cursor in ("", *([f"&cursor={page['next']}"] if page["next"] else [])):
            sent.clear()
            await service.admin().get(f"/v1/users?{query}{cursor}")
            statement, values = next(one for one in sent if "FROM users" in one[0])
            plan = await _plan(parts, statement, values)
            assert all(row["key"] and row["type"] != "ALL" for row in plan), (query, plan)
            assert not any("filesort" in (row["Extra"] or "") for row in plan), (query, plan)


async def _plan(parts: Parts, statement: str, values: Any) -> list[dict[str, Any]]:
    explained = await parts.database.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {statement}", values)
    )
    return [dict(row) for row in explained.mappings()]
