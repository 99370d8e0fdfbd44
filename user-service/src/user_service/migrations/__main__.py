"""`python -m user_service.migrations upgrade|downgrade|revision`: change the schema, no framework started."""

import argparse
import asyncio
import sys

from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service_kit.settings import load
from user_service.config import DatabaseSettings
from user_service.migrations import LockTaken, alembic_config


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m user_service.migrations", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    upgrade_to = verbs.add_parser("upgrade", help="bring the database to a revision, by default the newest")
    upgrade_to.add_argument("revision", nargs="?", default="head")
    downgrade_to = verbs.add_parser("downgrade", help="take the database back to a revision, or by -1")
    downgrade_to.add_argument("revision")
    new = verbs.add_parser("revision", help="write a new migration from the difference to the models")
    new.add_argument("-m", "--message", required=True)
    new.add_argument("--rev-id", required=True, help="a number and a name: 0007_phone_numbers")
    chosen = parser.parse_args(arguments)

    settings = load(DatabaseSettings)
    url = settings.url()
    try:
        match chosen.verb:
            case "upgrade":
                upgrade(url, chosen.revision)
            case "downgrade":
                command.downgrade(alembic_config(url), chosen.revision)
            case "revision":
                command.revision(alembic_config(url), chosen.message, autogenerate=True, rev_id=chosen.rev_id)
    except LockTaken:
        return _refuse("another migration holds the lock; it was waited for long enough")
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return _refuse(f"the database refused: {type(cause).__name__}: {cause}")
    except CommandError as error:
        return _refuse(str(error))
    return 0


def upgrade(url: URL, revision: str = "head") -> None:
    """Upgrade; a database that newer code already migrated is left alone if this code can still use it."""
    config = alembic_config(url)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current, floor = asyncio.run(_state(url))
    if current is None or current in known:
        command.upgrade(config, revision)
    elif floor in known:
        print(f"the database is at {current}, ahead of this release, and still serves it")
    else:
        raise CommandError(
            f"the database is at {current} and needs code that knows {floor}: use a newer release"
        )


async def _state(url: URL) -> tuple[str | None, str | None]:
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_read_state)
    finally:
        await engine.dispose()


def _read_state(connection: Connection) -> tuple[str | None, str | None]:
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        return None, None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if "schema_floor" not in tables:
        return revision, None
    return revision, connection.execute(text("SELECT revision FROM schema_floor")).scalar()


def _refuse(why: str) -> int:
    print(f"migrations: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
