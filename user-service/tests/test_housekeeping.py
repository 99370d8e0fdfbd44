"""What is done is removed, a bounded batch at a time, and nothing else."""

from datetime import timedelta

import pytest
from conftest import Service
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service import retention
from user_service.main import Parts
from user_service.users.models import utc_now

TABLES = ("idempotency", "mailed_links", "address_changes", "mail_outbox")


async def fill(service: Service, parts: Parts, count: int) -> None:
    """`count` rows in each table: keyed registrations, their mails, and links and changes of address."""
    for number in range(count):
        await service.register(**{"Idempotency-Key": f"number {number}"})
    await parts.database.transaction(add_links)


async def add_links(connection: AsyncConnection) -> None:
    for statement in (
        "INSERT INTO mailed_links (digest, kind, email, email_key, created_at, expires_at)"
        " SELECT id, 'verify-address', email, email_key, created_at, created_at FROM users",
        "INSERT INTO address_changes (user_id, old_email, old_email_key, changed_at, undo_until)"
        " SELECT id, email, email_key, created_at, created_at FROM users",
    ):
        await connection.execute(text(statement))


async def counts(parts: Parts) -> list[int]:
    async def work(connection: AsyncConnection) -> list[int]:
        queries = [text(f"SELECT COUNT(*) FROM {table}") for table in TABLES]
        return [(await connection.execute(query)).scalar_one() for query in queries]

    return await parts.database.read(work)


async def test_what_is_done_goes_in_batches_and_what_is_young_stays(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service, parts, 5)
    assert await counts(parts) == [5, 5, 5, 5]
    monkeypatch.setattr(retention, "BATCH", 2)
    await retention.tidy(parts.database, utc_now() + timedelta(hours=23))
    assert await counts(parts) == [5, 5, 5, 5]
    await retention.tidy(parts.database, utc_now() + timedelta(hours=25))
    assert await counts(parts) == [0, 5, 5, 5]
    await retention.tidy(parts.database, utc_now() + timedelta(days=8))
    assert await counts(parts) == [0, 0, 0, 0]
    people = await service.admin().get("/v1/users")
    assert len(people.json()["items"]) == 5
