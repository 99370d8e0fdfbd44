"""What the code of each release uses of the schema, kept in releases/: a column may go once no release needs it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Index

from user_service.migrations import TABLES

FOLDER: Final = Path(__file__).parent / "releases"


@dataclass(frozen=True, slots=True)
class Release:
    """`head` is its newest migration; `tables` say of each column whether it may be null."""

    version: str
    head: str
    tables: Mapping[str, Mapping[str, bool]]

    def uses(self, table: str, column: str | None = None) -> bool:
        return table in self.tables and (column is None or column in self.tables[table])


def of_models(version: str, head: str) -> Release:
    """The release that the present models would be."""
    tables = {
        table.name: {column.name: bool(column.nullable) for column in table.columns}
        for table in TABLES.sorted_tables
    }
    return Release(version, head, tables)


def write(release: Release) -> Path:
    file = FOLDER / f"{release.version}.json"
    file.write_text(json.dumps(asdict(release), indent=2) + "\n", encoding="utf-8")
    return file


@cache
def known() -> Sequence[Release]:
    """Every release so far, in the order of their migrations."""
    files = (json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json"))
    return sorted((Release(**release) for release in files), key=lambda release: release.head)


def belongs_to_models(item: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
    """Alembic's include_object: what only an earlier release used waits for its drop, and is no difference."""
    if not reflected or compared is not None:
        return True
    if kind == "table":
        return not any(release.uses(str(name)) for release in known())
    columns = item.columns if isinstance(item, Index) else [item]
    return not any(
        release.uses(column.table.name, column.name)
        and column.name not in TABLES.tables[column.table.name].columns
        for release in known()
        for column in columns
        if kind in ("column", "index") and column.table.name in TABLES.tables
    )
