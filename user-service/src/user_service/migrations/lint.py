"""Expand, then contract: refuses a migration that the release before it could not run beside."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from user_service.migrations.releases import Release

_NAME: Final = r"`?(\w+)`?"
_TABLE_GOES: Final = re.compile(
    rf"DROP TABLE (?:IF EXISTS )?{_NAME}|RENAME TABLE {_NAME} TO|ALTER TABLE {_NAME} RENAME (?:TO|AS) ", re.I
)
_ALTER: Final = re.compile(rf"ALTER TABLE {_NAME} (.*)", re.I | re.S)
_COLUMN_GOES: Final = re.compile(rf"\b(?:DROP COLUMN|RENAME COLUMN) {_NAME}", re.I)
_CHANGED: Final = re.compile(rf"\bCHANGE (?:COLUMN )?{_NAME} {_NAME}(.*)", re.I | re.S)
_MODIFIED: Final = re.compile(rf"\bMODIFY (?:COLUMN )?{_NAME}(.*)", re.I | re.S)
_ADDED: Final = re.compile(rf"\bADD COLUMN {_NAME}(.*)", re.I | re.S)


@dataclass(frozen=True, slots=True)
class Migration:
    revision: str
    oldest_code: str
    upgrade: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Loss:
    """What code that knows nothing of the migration would miss: a table, or a column of it."""

    table: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.table}.{self.column}" if self.column else self.table


def of_scripts(scripts: ScriptDirectory) -> list[Migration]:
    """Every migration, oldest first."""
    return [
        Migration(script.revision, script.module.oldest_code, script.module.upgrade)
        for script in reversed(list(scripts.walk_revisions()))
    ]


def faults(migrations: Sequence[Migration], releases: Sequence[Release]) -> list[str]:
    """One line for each thing that would stop the code of a release that still runs."""
    order = [migration.revision for migration in migrations]
    found = []
    for place, migration in enumerate(migrations):
        earlier = [release for release in releases if order.index(release.head) < place]
        if not earlier:
            continue  # nothing was released that it could break
        previous = earlier[-1]
        statements = sql_of(migration)
        for loss in _losses(statements):
            if previous.uses(loss.table, loss.column):
                found.append(
                    f"{migration.revision} drops or renames {loss}, which release {previous.version} uses: "
                    "stop using it in one release, drop it in the next"
                )
            elif any(release.uses(loss.table, loss.column) for release in earlier) and order.index(
                migration.oldest_code
            ) < order.index(previous.head):
                found.append(
                    f"{migration.revision} drops {loss}: its oldest_code must be {previous.head!r}, "
                    f"that of release {previous.version}, the first without it"
                )
        found += [f"{migration.revision} {fault}" for fault in _demands(statements, previous)]
    return found


def sql_of(migration: Migration) -> list[str]:
    """What MySQL would be told; so operations and hand-written SQL are read alike."""
    text = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="mysql", opts={"as_sql": True, "output_buffer": text, "literal_binds": True}
    )
    with Operations.context(context):
        migration.upgrade()
    return [" ".join(statement.split()) for statement in text.getvalue().split(";\n")]


def _losses(statements: Sequence[str]) -> Iterator[Loss]:
    for statement in statements:
        if gone := _TABLE_GOES.search(statement):
            yield Loss(next(name for name in gone.groups() if name))
        if altered := _ALTER.match(statement):
            table, change = altered.groups()
            for column in _COLUMN_GOES.findall(change):
                yield Loss(table, column)
            if (changed := _CHANGED.search(change)) and changed[1] != changed[2]:
                yield Loss(table, changed[1])


def _demands(statements: Sequence[str], previous: Release) -> Iterator[str]:
    """What the earlier code's inserts and updates would not bring."""
    for statement in statements:
        altered = _ALTER.match(statement)
        if altered is None or not previous.uses(altered[1]):
            continue
        table, change = altered.groups()
        if (added := _ADDED.search(change)) and "NOT NULL" in added[2] and "DEFAULT" not in added[2].upper():
            yield f"adds {table}.{added[1]} without a default: release {previous.version} inserts without it"
        for changed in filter(None, (_MODIFIED.search(change), _CHANGED.search(change))):
            column, definition = changed[1], changed.groups()[-1]
            if "NOT NULL" in definition and previous.tables[table].get(column):
                yield f"forbids null in {table}.{column}, which release {previous.version} may write"
