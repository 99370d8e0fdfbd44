"""Two users of MySQL: one migrates, the other serves and changes rows alone; and each password that it can hold works."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from system import MySQLDatabase, statements

from service_kit.settings import load
from user_service.config import DatabaseSettings
from user_service.database import Database, create_engine, error_code, single_engine
from user_service.migrations.__main__ import main, upgrade

pytestmark = pytest.mark.containers

DENIED = {1044, 1142, 1227, 1370}  # MySQL's numbers for: your user may not
NOT_FOR_THE_SERVER = (
    "DROP TRIGGER audit_keeps_rows",
    "DROP TRIGGER audit_keeps_facts",
    "CREATE TRIGGER more BEFORE INSERT ON audit FOR EACH ROW SET NEW.action = 'none'",
    "DROP TABLE audit",
    "TRUNCATE TABLE audit",
    "ALTER TABLE audit RENAME TO audited",
    "CREATE TABLE more (id INT)",
    "CREATE INDEX more ON users (name)",
    "CREATE VIEW more AS SELECT 1",
    "CREATE PROCEDURE more() SELECT 1",
    "CREATE EVENT more ON SCHEDULE EVERY 1 DAY DO DELETE FROM users",
    "DROP DATABASE {0}",
    "CREATE DATABASE more",
    "CREATE USER more",
    "GRANT TRIGGER ON {0}.* TO {0}",
    "ALTER USER {0}_owner IDENTIFIED BY 'x'",
    "SELECT * FROM mysql.user",
    "SET GLOBAL log_bin_trust_function_creators = 0",
    "SELECT 1 INTO OUTFILE '/tmp/more'",
)
PASSWORDS = (
    "pässwörd",
    "zażółć gęślą jaźń",
    "пароль 密码 🔑",
    "a#b;c -- d",
    "back\\slash\\",
    "'single' and \"double\"",
    "  blanks around  ",
    "100%s %% %(name)s",
    "p@ss:w/rd?x=1&y=[2]",
    "$HOME `id` $(id) !! ~",
    "\ttab",
    "a,b=c{d}",
    "x" * 200,
)


@pytest.fixture
def root() -> URL:
    return make_url(os.environ["TEST_MYSQL_URL"])


@pytest.fixture
def database(root: URL, tmp_path: Path) -> Iterator[MySQLDatabase]:
    made = MySQLDatabase(root, tmp_path / "database-secrets")
    yield made
    made.remove()


def ask(url: URL, *queries: str) -> Any:
    """What the last of them answers, or the number of the first error."""

    async def run() -> Any:
        engine = single_engine(url)
        try:
            async with engine.connect() as connection:
                for query in queries:
                    result = await connection.execute(text(query))
                await connection.commit()
                return result.scalar() if result.returns_rows else None
        except DBAPIError as error:
            return error_code(error)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def test_the_user_who_serves_changes_rows_and_nothing_else(database: MySQLDatabase) -> None:
    upgrade(database.owner)
    assert ask(database.server, "INSERT INTO schema_floor VALUES (2, 'x')") is None
    assert ask(database.server, "DELETE FROM schema_floor WHERE id = 2") is None
    assert ask(database.server, "SELECT COUNT(*) FROM performance_schema.replication_group_members") == 0
    for statement in NOT_FOR_THE_SERVER:
        assert ask(database.server, statement.format(database.name)) in DENIED, statement


def test_a_server_that_owned_its_schema_loses_that_and_goes_on(database: MySQLDatabase, root: URL) -> None:
    """As in 0.1.0: one user had all rights and made the triggers."""
    name, record = database.name, "INSERT INTO audit (id, subject_id, actor, action, details, address, at)"
    row = f"{record} VALUES (1, '', 'ada', 'x', '{{}}', '192.0.2.1', NOW())"
    asyncio.run(statements(root, [f"GRANT ALL ON `{name.replace('_', chr(92) + '_')}`.* TO {name}"]))
    upgrade(database.server, "0003_append_only_audit")
    assert ask(database.server, row) is None
    database.make()
    assert ask(database.server, "SELECT COUNT(*) FROM users") == 0
    assert ask(database.server, "DROP TRIGGER audit_keeps_rows") in DENIED
    upgrade(database.owner)
    assert ask(database.server, "DROP TRIGGER audit_keeps_rows") in DENIED
    # The triggers, of the owner now, refuse what they should and nothing else.
    assert (
        ask(database.server, "DELETE FROM audit")
        == ask(database.server, "UPDATE audit SET action = 'y'")
        == 1644
    )
    assert ask(database.server, "UPDATE audit SET actor = 'erased', address = NULL") is None
    definers = "SELECT GROUP_CONCAT(DISTINCT definer) FROM information_schema.triggers WHERE trigger_schema = DATABASE()"
    assert ask(database.owner, definers) == f"{name}_owner@%"


@pytest.mark.parametrize("password", PASSWORDS)
def test_every_password_works_for_the_migrator_the_service_and_the_tests(
    password: str, root: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_dir = tmp_path / "secrets"
    secrets_dir.mkdir()
    (secrets_dir / "database_password").write_text(f"{password}\n")
    database = MySQLDatabase(root, tmp_path / "database-secrets", password)
    try:
        monkeypatch.setenv("SECRETS_DIR", str(secrets_dir))
        monkeypatch.setenv("DATABASE_URL", database.owner.set(password=None).render_as_string(False))
        assert main(["upgrade"]) == 0
        monkeypatch.setenv("DATABASE_URL", database.server.set(password=None).render_as_string(False))
        assert asyncio.run(people(load(DatabaseSettings).url())) == 0
        assert asyncio.run(people(make_url(database.server.render_as_string(False)))) == 0
        assert ask(database.server, "SELECT COUNT(*) FROM users") == 0
    finally:
        database.remove()


async def people(url: URL) -> int:
    """Their number, as the service asks."""
    database = Database(create_engine(url))
    try:
        query = text("SELECT COUNT(*) FROM users")
        return await database.read(lambda connection: connection.scalar(query)) or 0
    finally:
        await database.close()
