"""Writes the old and the new id of everybody who was imported, for tables elsewhere that hold the old one."""

import json
from typing import Final, TextIO

from user_service.database import Database
from user_service.imports import repository

BATCH: Final = 5_000


async def export_ids(database: Database, file: TextIO) -> int:
    """One JSON object a line; how many there were. Read in batches: no table is too large, and no lock is held."""
    written, last = 0, ""
    while pairs := await database.read(repository.ids_after, last, BATCH):
        for old, new in pairs:
            file.write(json.dumps({"external_id": old, "id": str(new)}) + "\n")
        written, last = written + len(pairs), pairs[-1][0]
    file.flush()
    return written
