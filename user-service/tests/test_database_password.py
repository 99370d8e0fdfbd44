"""user-service's MySQL password stolen, and nothing else: what docs/security.md calls possible is, and nothing more."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from system import MySQLDatabase

from user_service.database import single_engine
from user_service.migrations.__main__ import upgrade
from user_service.users.models import utc_now

pytestmark = pytest.mark.containers


@pytest.fixture
def database(tmp_path: Path) -> Iterator[MySQLDatabase]:
    made = MySQLDatabase(make_url(os.environ["TEST_MYSQL_URL"]), tmp_path / "database-secrets")
    yield made
    made.remove()


@pytest.fixture
async def thief(database: MySQLDatabase) -> AsyncIterator[AsyncConnection]:
    """On the migrated database, as the user that serves."""
    await asyncio.to_thread(upgrade, database.owner)
    own = single_engine(database.server)
    async with own.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")
    await own.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM mysql.user",
        "CREATE DATABASE another",
        "CREATE USER thief IDENTIFIED BY 'x'",
        "GRANT SELECT ON *.* TO CURRENT_USER()",
        "SET GLOBAL max_connections = 1",
        "SELECT 'x' INTO OUTFILE '/var/lib/mysql-files/x'",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE users",
        "SELECT * FROM performance_schema.accounts",
        "SHUTDOWN",
        "SHOW BINARY LOGS",
    ],
)
async def test_the_password_reaches_nothing_beside_user_services_own_database(
    thief: AsyncConnection, statement: str
) -> None:
    with pytest.raises(DBAPIError) as refused:
        await thief.execute(text(statement))
    # Access denied, to a database, a table or for want of a privilege.
    assert refused.value.orig is not None
    assert refused.value.orig.args[0] in (1044, 1045, 1142, 1227), refused.value.orig.args


async def test_the_password_reads_no_file_of_the_server(thief: AsyncConnection) -> None:
    assert (await thief.execute(text("SELECT LOAD_FILE('/etc/passwd')"))).scalar() is None


async def test_the_password_decides_whatever_user_service_decides(thief: AsyncConnection) -> None:
    """What is left possible: rights and password hashes are its data. The audit only gains rows, and names whomever."""
    person = {"id": uuid4().bytes, "now": utc_now()}
    added = "INSERT INTO audit (subject_id, actor, action, details, at) VALUES (:id, 'x', 'y', '{}', :now)"
    await thief.execute(text(added), person)
    await thief.execute(text("UPDATE users SET password_hash = 'mine', status = 'active'"))
    await thief.execute(text("DELETE FROM user_roles"))
    await thief.execute(text("UPDATE audit SET subject_id = :id, actor = 'somebody else'"), person)
    for statement in ("DELETE FROM audit", "UPDATE audit SET action = 'z'"):
        with pytest.raises(DBAPIError, match="append-only"):
            await thief.execute(text(statement))
    with pytest.raises(DBAPIError, match="denied"):
        await thief.execute(text("DROP TRIGGER audit_keeps_rows"))
