"""user-service's MySQL password stolen, and nothing else: what docs/security.md calls possible is, and nothing more."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from user_service.migrations.__main__ import upgrade

pytestmark = pytest.mark.containers


@pytest.fixture
async def thief() -> AsyncIterator[AsyncConnection]:
    """On the migrated database, as the user that the image makes of MYSQL_USER and MYSQL_DATABASE (mysql.yaml)."""
    server, name, password = make_url(os.environ["TEST_MYSQL_URL"]), f"test_{uuid4().hex}", uuid4().hex
    user = name[:32]
    root = create_async_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with root.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        await connection.execute(text(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'"))
        await connection.execute(text(f"GRANT ALL ON {name}.* TO {user}@'%'"))
    await asyncio.to_thread(upgrade, server.set(database=name))
    own = create_async_engine(
        server.set(username=user, password=password, database=name),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    async with own.connect() as connection:
        yield connection
    async with root.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name}"))
        await connection.execute(text(f"DROP USER {user}@'%'"))
    await own.dispose()
    await root.dispose()


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
    """What is left possible: rights and password hashes are its data, and the audit its own table."""
    granted = (await thief.execute(text("SHOW GRANTS"))).scalars().all()
    assert sum("ALL PRIVILEGES" in grant for grant in granted) == 1
    assert sum("USAGE ON *.*" in grant for grant in granted) == 1
    await thief.execute(text("DROP TRIGGER audit_keeps_rows"))
    await thief.execute(text("DELETE FROM audit"))
    await thief.execute(text("SELECT * FROM users"))
