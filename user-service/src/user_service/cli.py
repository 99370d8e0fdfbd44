"""Commands for operators: `python -m user_service.cli admin EMAIL`, `… import FILE`, `… export`, `… seed COUNT`."""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TextIO

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from service_kit.settings import load
from user_service.audit.models import AuditContext
from user_service.config import DatabaseSettings
from user_service.database import Database, create_engine
from user_service.imports.exporting import export_ids
from user_service.imports.people import NAME_FROM
from user_service.imports.reading import Row
from user_service.imports.seeding import seed
from user_service.imports.service import Importer, Tally
from user_service.users import repository
from user_service.users.changes import write
from user_service.users.email import InvalidEmail, parse_email
from user_service.users.exceptions import UserNotFound
from user_service.users.models import ADMIN, Status, User

STDIN = Path("-")
PATIENCE_SECONDS = 60.0
BY_COMMAND = AuditContext("command")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m user_service.cli", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    admin = verbs.add_parser("admin", help="make a registered person an administrator")
    admin.add_argument("email")
    bring_in = verbs.add_parser("import", help="bring people in: JSON lines, or Django's dumpdata as it is")
    bring_in.add_argument("file", type=Path, help="- is standard input")
    bring_in.add_argument(
        "--rejected",
        type=Path,
        help="where bad rows go, to be mended: FILE.rejected unless said, and standard output for standard input",
    )
    bring_in.add_argument(
        "--name-from",
        choices=NAME_FROM,
        help="what stands for the name of whoever has none in a Django dump; their rows are rejected unless said",
    )
    verbs.add_parser(
        "export", help="write the old and the new id of everybody who was imported, as JSON lines"
    )
    make_up = verbs.add_parser(
        "seed", help="make people up, for trying out sizes; nobody can sign in as them"
    )
    make_up.add_argument("count", type=int)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verb == "import":
            rejected = chosen.rejected
            if rejected is None and chosen.file != STDIN:
                rejected = chosen.file.with_name(chosen.file.name + ".rejected")
            if rejected is not None and rejected.exists() and rejected.samefile(_source(chosen.file)):
                return _refuse("--rejected is the file that is read, and would empty it")
            _keep_earlier(rejected)
            return asyncio.run(import_people(chosen.file, rejected, chosen.name_from))
        if chosen.verb == "export":
            asyncio.run(export())
        elif chosen.verb == "seed":
            asyncio.run(seed_people(chosen.count))
        else:
            print(asyncio.run(make_admin(chosen.email)))
    except (OSError, UnicodeDecodeError) as error:
        return _refuse(f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'not UTF-8'}")
    except InvalidEmail as error:
        return _refuse(str(error))
    except Problem as problem:
        return _refuse(f"{problem.title} ({problem.code})")
    return 0


def _source(file: Path) -> Path:
    return Path("/dev/stdin") if file == STDIN else file


async def make_admin(email: str) -> str:
    """Grant the role; what was done, in one line."""
    key = parse_email(email).key
    settings = load(DatabaseSettings)
    database = Database(create_engine(settings.url(), pool_size=1))
    try:
        return await database.transaction(_grant_admin, key)
    finally:
        await database.close()


async def _grant_admin(connection: AsyncConnection, email_key: str) -> str:
    found = await repository.find_by_email_key(connection, email_key)
    if found is None:
        raise UserNotFound
    before = await repository.lock(connection, found.id)
    if ADMIN in before.roles:
        return f"{before.id} is an administrator already{_doubts(before)}"
    after = before.with_roles(tuple(sorted({*before.roles, ADMIN})))
    await write(connection, BY_COMMAND, before, after, "user.roles_changed", granted=[ADMIN], taken=[])
    return f"{before.id} is an administrator now{_doubts(before)}"


def _doubts(user: User) -> str:
    """What an operator who knows only the address should know of its account, each on a line of its own."""
    doubts = []
    if user.email_verified_at is None:
        doubts.append(
            "nobody has confirmed this address: be sure that its owner registered it, "
            f"on {user.created_at:%Y-%m-%d at %H:%M} UTC"
        )
    if user.status is not Status.ACTIVE:
        doubts.append(f"the account is {user.status}")
    return "".join(f"\n{doubt}" for doubt in doubts)


async def import_people(source: Path, rejected: Path | None, name_from: str | None = None) -> int:
    """0 when everybody is here; 1 when rows stay out. Those are kept, one a line, to be mended."""
    settings = load(DatabaseSettings)
    database = _for_many_rows(settings)
    begun = time.monotonic()

    def progress(tally: Tally) -> None:
        pace = tally.read / max(time.monotonic() - begun, 0.001)
        _say(f"{tally.read:,} rows, {tally.added:,} added, {pace:,.0f}/s", end="\r")

    try:
        with ExitStack() as files:
            file = files.enter_context(_as_it_is(sys.stdin.fileno() if source == STDIN else source, "r"))
            kept = files.enter_context(_as_it_is(rejected or sys.stdout.fileno(), "w"))

            def reject(row: Row, why: str) -> None:
                _say(f"line {row.line}, row {row.number}: {why}")
                # JSON has line ends only between its parts.
                kept.write(row.text.replace("\n", " ") + "\n")

            def change(row: Row, what: str) -> None:
                _say(f"line {row.line} (row {row.number}) changed: {what}")

            importer = Importer(database, BY_COMMAND, reject, progress, change=change, name_from=name_from)
            tally = await importer.run(file)
    finally:
        await database.close()
    _report(tally, rejected)
    return 1 if tally.rejected or tally.broken else 0


def _keep_earlier(rejected: Path | None) -> None:
    """Rows that an earlier import rejected may be half mended."""
    if rejected is not None and rejected.is_file() and rejected.stat().st_size:
        earlier = rejected.replace(rejected.with_name(rejected.name + ".old"))
        _say(f"the rows that were rejected before are in {earlier} now")


def _as_it_is(file: Path | int, mode: Literal["r", "w"]) -> TextIO:
    """A byte that is not UTF-8 spoils its row, not the file, and stays with that row when it is kept."""
    return open(
        file,
        mode,
        encoding="utf-8",
        errors="surrogateescape",
        closefd=isinstance(file, Path),
        # Rows hold addresses and password hashes: for the operator's eyes alone.
        opener=lambda name, flags: os.open(name, flags, 0o600),
    )


def _report(tally: Tally, rejected: Path | None) -> None:
    _say(
        f"{tally.added:,} added ({tally.without_password:,} of them must set a new password),"
        f" {tally.already_here:,} were here already, {tally.other_models.total():,} rows about something else,"
        f" {tally.changed:,} changed, {tally.rejected:,} rejected"
    )
    if tally.other_models:
        _say(f"rows about something else: {_listed(tally.other_models)}")
    if tally.left_out:
        _say(f"filled fields of people that are not kept: {_listed(tally.left_out)}")
    if tally.broken:
        _say(tally.broken)
    if rejected and tally.rejected:
        _say(f"the rejected rows are in {rejected}")
    elif rejected:
        rejected.unlink()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{ascii(name)[1:-1]} ({count:,})" for name, count in counts.most_common())


def _for_many_rows(settings: DatabaseSettings) -> Database:
    """Of more patience than a request has: a busy database takes its time for some hundred rows at once."""
    engine = create_engine(settings.url(), pool_size=1, deadline=PATIENCE_SECONDS)
    return Database(engine, deadline=PATIENCE_SECONDS)


async def export() -> None:
    database = _for_many_rows(load(DatabaseSettings))
    try:
        written = await export_ids(database, sys.stdout)
    finally:
        await database.close()
    _say(f"{written:,} people had an id before")


async def seed_people(count: int) -> None:
    settings = load(DatabaseSettings)
    database = _for_many_rows(settings)
    begun = time.monotonic()

    def progress(made: int) -> None:
        pace = made / max(time.monotonic() - begun, 0.001)
        _say(f"{made:,} of {count:,} people, {pace:,.0f}/s, {(count - made) / pace:,.0f} s to go ", end="\r")

    try:
        await seed(database, count, progress)
    finally:
        await database.close()
    _say(f"{count:,} people made up in {time.monotonic() - begun:,.0f} s".ljust(60))


def _say(text: str, end: str = "\n") -> None:
    """To standard error: standard output may be carrying rows."""
    print(text, end=end, file=sys.stderr, flush=True)


def _refuse(why: str) -> int:
    print(f"user-service: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
