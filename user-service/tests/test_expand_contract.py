"""A migration never takes away what the release before it uses; releases before and after work on one database."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from conftest import Service
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from test_migrations import on

import user_service.migrations
from user_service.config import Settings
from user_service.database import create_engine
from user_service.main import Parts
from user_service.migrations import TABLES, alembic_config, releases
from user_service.migrations.__main__ import main
from user_service.migrations.lint import Migration, faults
from user_service.migrations.online import online
from user_service.migrations.releases import Release

on_mysql = pytest.mark.parametrize(
    "empty_database", [pytest.param("mysql", marks=pytest.mark.containers)], indirect=True
)

PEOPLE = {"id": False, "name": False, "nickname": True}
FIRST = Release("1.0", "0001", {"people": PEOPLE, "badges": {"id": False}})
# The second release's code no longer asks for nicknames and badges.
SECOND = Release("1.1", "0002", {"people": {"id": False, "name": False}})


def linted(
    upgrade: Callable[[], object], *released: Release, oldest_code: str = "0001", revision: str = "0003"
) -> list[str]:
    def nothing() -> None:
        pass

    history = [Migration("0001", "0001", nothing), Migration("0002", "0001", nothing)]
    return faults([*history, Migration(revision, oldest_code, upgrade)], released)


def test_the_migrations_of_this_release_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("upgrade", "lost"),
    [
        (lambda: op.drop_column("people", "nickname"), "people.nickname"),
        (
            lambda: op.alter_column("people", "nickname", new_column_name="alias", existing_type=sa.Text()),
            "people.nickname",
        ),
        (lambda: op.execute("ALTER TABLE `people` RENAME COLUMN `nickname` TO `alias`"), "people.nickname"),
        (lambda: op.execute("alter table people drop column nickname, drop column name"), "people.name"),
        (lambda: op.drop_table("badges"), "badges"),
        (lambda: op.rename_table("badges", "medals"), "badges"),
        (lambda: op.execute("RENAME TABLE badges TO medals"), "badges"),
    ],
)
def test_dropping_or_renaming_what_the_last_release_uses_is_refused(
    upgrade: Callable[[], object], lost: str
) -> None:
    assert any(
        f"drops or renames {lost}, which release 1.0 uses" in fault for fault in linted(upgrade, FIRST)
    )


def test_what_the_last_release_left_alone_may_go() -> None:
    def upgrade() -> None:
        op.drop_column("people", "nickname")
        op.drop_table("badges")

    assert linted(upgrade, FIRST, SECOND, oldest_code="0002") == []


def test_a_contraction_says_which_code_it_leaves_behind() -> None:
    (fault,) = linted(lambda: op.drop_table("badges"), FIRST, SECOND)
    assert "its oldest_code must be '0002'" in fault


@pytest.mark.parametrize(
    ("upgrade", "why"),
    [
        (lambda: op.add_column("people", sa.Column("born", sa.Date(), nullable=False)), "inserts without it"),
        (
            lambda: op.alter_column("people", "nickname", existing_type=sa.String(9), nullable=False),
            "may write",
        ),
    ],
)
def test_demanding_what_the_last_release_does_not_bring_is_refused(
    upgrade: Callable[[], object], why: str
) -> None:
    (fault,) = linted(upgrade, FIRST)
    assert why in fault


def test_expanding_is_always_allowed() -> None:
    def upgrade() -> None:
        op.add_column("people", sa.Column("phone", sa.String(20)))
        op.add_column("people", sa.Column("kind", sa.String(9), server_default="person", nullable=False))
        op.create_index("ix_people_phone", "people", ["phone"])
        op.create_table("orders", sa.Column("id", sa.Integer(), primary_key=True))

    assert linted(upgrade, FIRST) == []


def test_a_release_that_nobody_noted_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("user_service.migrations.__main__.__version__", "9.9.9")
    assert main(["lint"]) == 1
    assert "release 9.9.9 is not noted" in capsys.readouterr().err


def test_a_release_notes_what_its_models_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "FOLDER", tmp_path)
    assert main(["release"]) == 0
    (file,) = tmp_path.iterdir()
    noted = json.loads(file.read_text())
    assert noted["head"] >= releases.known()[-1].head
    assert noted["tables"]["users"]["email"] is False
    assert noted["tables"]["users"]["deleted_at"] is True


def test_a_column_that_waits_for_its_drop_is_no_difference(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Release("0.0.9", "0001_people", {"users": {"nickname": True}})
    on(database_url, lambda connection: connection.execute(text("ALTER TABLE users ADD nickname VARCHAR(9)")))

    def difference(connection: Connection) -> list[Any]:
        options = {"include_object": releases.belongs_to_models}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), TABLES))

    assert len(on(database_url, difference)) == 1
    monkeypatch.setattr(releases, "known", lambda: [earlier])
    assert on(database_url, difference) == []


EXPANSION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, oldest_code = "9000_phone", {head!r}, {head!r}
branch_labels = depends_on = None


def upgrade():
    op.add_column("users", sa.Column("phone", sa.String(20)))
    op.create_index("ix_users_phone", "users", ["phone"])


def downgrade():
    op.drop_index("ix_users_phone", "users")
    op.drop_column("users", "phone")
"""


@pytest.fixture
def next_release(empty_database: str, tmp_path: Path) -> Config:
    """The migrations of a release that knows telephone numbers."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(user_service.migrations.__file__).parent, folder)
    config = alembic_config(make_url(empty_database))
    (folder / "versions" / "9000_phone.py").write_text(EXPANSION.format(head=releases.known()[-1].head))
    config.set_main_option("script_location", str(folder))
    return config


async def test_this_release_starts_and_works_on_the_next_one_s_database(
    next_release: Config, service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(command.upgrade, next_release, "head")
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert await asyncio.to_thread(main, ["upgrade"]) == 0
    ada = await service.register()
    changed = await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers={"If-Match": ada.etag})
    assert changed.json()["name"] == "Grace"
    assert (await service.verify(ada.email))["verified"]
    await service.admin().delete(f"/v1/users/{ada.id}")
    assert (await service.admin().post(f"/v1/users/{ada.id}/erase")).status_code == 204


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The load is of few people, who change their names all the time."""
    return settings.model_copy(update={"changes_per_hour": 10_000})


@on_mysql
async def test_a_migration_under_load_disturbs_neither_old_nor_new_code(
    next_release: Config, service: Service, parts: Parts
) -> None:
    people = [await service.register() for _ in range(4)]
    stop = asyncio.Event()
    requests = 0

    async def old_code(number: int) -> None:
        nonlocal requests
        me = people[number]
        while not stop.is_set():
            read = await me.client.get("/v1/users/me")
            match = {"If-Match": read.headers["etag"]}
            body = {"name": f"Ada {requests}"}
            written = await me.client.patch("/v1/users/me", json=body, headers=match)
            listed = await service.admin().get("/v1/users?limit=2")
            assert [read.status_code, written.status_code, listed.status_code] == [200, 200, 200]
            requests += 3

    async def new_code() -> None:
        """Writes the new column as soon as it is there."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text("UPDATE users SET phone = '+44 20 7946 0000'"))

        await parts.database.transaction(work)

    load = [asyncio.create_task(old_code(number)) for number in range(len(people))]
    for _ in range(3):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(command.upgrade, next_release, "head")
        await new_code()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(command.downgrade, next_release, "-1")
    stop.set()
    await asyncio.gather(*load)
    assert requests > 50


@on_mysql
def test_a_column_comes_at_once_and_a_copied_table_is_refused(database_url: str) -> None:
    def change(statement: str) -> None:
        on(database_url, lambda connection: connection.execute(text(online(statement))))

    change("ALTER TABLE users ADD COLUMN phone VARCHAR(20)")
    change("CREATE INDEX ix_users_phone ON users (phone)")
    with pytest.raises(DBAPIError, match=r"184[56]"):
        change("ALTER TABLE users MODIFY phone INT")
    change("ALTER TABLE users MODIFY phone INT, ALGORITHM=COPY")  # said so by hand


@on_mysql
async def test_a_migration_does_not_queue_everybody_behind_a_long_transaction(
    next_release: Config, service: Service, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = await service.register()
    engine = create_engine(make_url(database_url))
    async with engine.connect() as report:
        await report.exec_driver_sql("BEGIN")
        await report.exec_driver_sql(
            "SELECT COUNT(*) FROM users"
        )  # holds the table's definition until its end
        migrating = asyncio.create_task(asyncio.to_thread(command.upgrade, next_release, "head"))
        with pytest.raises(DBAPIError, match="Lock wait timeout"):
            await migrating
        assert (await ada.client.get("/v1/users/me")).status_code == 200
        await report.exec_driver_sql("ROLLBACK")
    await engine.dispose()
    await asyncio.to_thread(command.upgrade, next_release, "head")
    assert (await service.verify(ada.email))["verified"]
