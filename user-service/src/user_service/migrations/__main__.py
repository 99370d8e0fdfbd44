"""`python -m user_service.migrations upgrade|downgrade|revision|lint|release`: the schema, no framework started."""

import argparse
import asyncio
import sys

from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from service_kit.settings import load
from user_service import __version__
from user_service.config import DatabaseSettings
from user_service.database import single_engine
from user_service.migrations import LockTaken, alembic_config, releases
from user_service.migrations.lint import faults, of_scripts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m user_service.migrations", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    upgrade_to = verbs.add_parser("upgrade", help="bring the database to a revision, by default the newest")
    upgrade_to.add_argument("revision", nargs="?", default="head")
    downgrade_to = verbs.add_parser("downgrade", help="take the database back to a revision, or by -1")
    downgrade_to.add_argument("revision")
    new = verbs.add_parser("revision", help="write a new migration from the difference to the models")
    new.add_argument("-m", "--message", required=True)
    new.add_argument("--rev-id", required=True, help="a number and a name: 0005_phone_numbers")
    verbs.add_parser("lint", help="refuse what the release before would not survive; needs no database")
    verbs.add_parser("release", help="note what this version's code uses of the schema, when it is released")
    chosen = parser.parse_args(arguments)
    if chosen.verb in ("lint", "release"):
        return lint() if chosen.verb == "lint" else release()

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


def lint() -> int:
    migrations = of_scripts(ScriptDirectory.from_config(alembic_config(make_url("sqlite://"))))
    found = faults(migrations, releases.known())
    if __version__ not in [release.version for release in releases.known()]:
        found.append(f"release {__version__} is not noted: python -m user_service.migrations release")
    for fault in found:
        print(f"migrations: {fault}", file=sys.stderr)
    return 1 if found else 0


def release() -> int:
    head = ScriptDirectory.from_config(alembic_config(make_url("sqlite://"))).get_current_head()
    assert head is not None
    print(f"wrote {releases.write(releases.of_models(__version__, head)).name}")
    return 0


async def _state(url: URL) -> tuple[str | None, str | None]:
    engine = single_engine(url)
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
