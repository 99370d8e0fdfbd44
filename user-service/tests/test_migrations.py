"""The schema: what the models say, reached and left without the framework, by one migrator at a time."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    Float,
    MetaData,
    String,
    Table,
    inspect,
    text,
)
from sqlalchemy.engine import make_url

from user_service.columns import MYSQL, Digest, Id, Moment, Serial
from user_service.database import single_engine
from user_service.migrations import LOCK_NAME, TABLES, LockTaken, alembic_config
from user_service.migrations.__main__ import main, upgrade

T = TypeVar("T")


def on(url: str, work: Callable[[Connection], T]) -> T:
    async def run() -> T:
        engine = single_engine(make_url(url))
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def tables(url: str) -> set[str]:
    return set(on(url, lambda connection: inspect(connection).get_table_names()))


def test_the_migrations_make_exactly_what_the_models_say(database_url: str) -> None:
    def difference(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, TABLES))

    assert on(database_url, difference) == []


def test_no_difference_is_seen_where_there_is_none(empty_database: str) -> None:
    """The types in which databases answer otherwise than they were asked."""
    probe = MetaData()
    Table(
        "probe",
        probe,
        Column("id", Id, primary_key=True),
        Column("serial", Serial, nullable=False),
        Column("flag", Boolean, server_default=text("0"), nullable=False),
        Column("ratio", Float, server_default=text("0.5"), nullable=False),
        Column("exact", Double, server_default=text("1.5"), nullable=False),
        Column("moment", Moment, nullable=False),
        Column("digest", Digest),
        Column("word", String(9), server_default=text("'none'"), nullable=False),
        Column("data", JSON),
        **MYSQL,
    )

    def difference(connection: Connection) -> list[Any]:
        probe.create_all(connection)
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), probe))

    assert on(empty_database, difference) == []


def test_every_migration_can_be_taken_back(empty_database: str) -> None:
    upgrade(make_url(empty_database))
    command.downgrade(alembic_config(make_url(empty_database)), "base")
    assert tables(empty_database) == {"alembic_version"}
    upgrade(make_url(empty_database))
    assert "users" in tables(empty_database)


def test_a_migration_does_not_silence_logging(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    upgrade(make_url(database_url))
    with caplog.at_level(logging.INFO):
        logging.getLogger("user_service.users").info("still heard")
    assert "still heard" in caplog.text


def test_migrating_starts_no_framework(tmp_path: Any) -> None:
    script = (
        "import sys; from user_service.migrations.__main__ import main; main(['upgrade'])\n"
        "print([name for name in ('fastapi', 'gunicorn', 'uvicorn', 'user_service.main') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/users.db", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def ahead(url: str, revision: str, floor: str) -> None:
    on(
        url,
        lambda connection: connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'")),
    )
    on(url, lambda connection: connection.execute(text(f"UPDATE schema_floor SET revision = '{floor}'")))


def test_a_newer_database_that_still_serves_this_code_is_left_alone(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead(database_url, "9999_from_the_future", "0001_people")
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert main(["upgrade"]) == 0
    assert "ahead of this release" in capsys.readouterr().out
    assert "users" in tables(database_url)


def test_a_newer_database_that_left_this_code_behind_is_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead(database_url, "9999_from_the_future", "9998_contracted")
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert main(["upgrade"]) == 1
    assert "use a newer release" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql+asyncmy://users@127.0.0.1:1/users")
    assert main(["upgrade"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.containers
@pytest.mark.parametrize("empty_database", ["mysql"], indirect=True)
def test_a_second_migrator_waits_for_the_first_and_not_for_ever(empty_database: str) -> None:
    url = make_url(empty_database)

    def migrate_beside_another(connection: Connection) -> None:
        connection.execute(text(f"SELECT GET_LOCK({LOCK_NAME}, 0)"))
        with ThreadPoolExecutor(1) as other, pytest.raises(LockTaken):
            other.submit(command.upgrade, alembic_config(url, lock_seconds=1), "head").result()

    on(empty_database, migrate_beside_another)
    assert tables(empty_database) == set()
    environment = {"DATABASE_URL": empty_database, "PYTHONPATH": ":".join(sys.path)}
    start = [sys.executable, "-m", "user_service.migrations", "upgrade"]
    both = [subprocess.Popen(start, env=environment) for _ in range(2)]
    assert [migrator.wait(90) for migrator in both] == [0, 0]
    assert "users" in tables(empty_database)
