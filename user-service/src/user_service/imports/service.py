"""Brings a file of people in, some hundred at a time; running it again brings in only who is missing."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TextIO

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit.models import AuditContext
from user_service.database import Database
from user_service.imports import repository
from user_service.imports.people import BadRow, Found, NotAPerson, person
from user_service.imports.reading import BrokenFile, Row, rows
from user_service.users.models import User, utc_now

BATCH: Final = 500
ATTEMPTS: Final = 3

MOST_NAMES: Final = 50  # of models and fields that are counted
RowReport = Callable[[Row, str], None]


@dataclass(slots=True)
class Tally:
    read: int = 0
    added: int = 0
    already_here: int = 0
    without_password: int = 0
    changed: int = 0
    rejected: int = 0
    # Rows about something else by their model, and filled fields of people that nobody keeps.
    other_models: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    broken: str = ""  # why nothing after some line was read


class Importer:
    """`reject` is told each row that stays out, and why, `change` each that comes in otherwise than it stands in the
    file; `progress` the tally after each batch. `name_from` is what may stand for a name that a row has not.
    """

    def __init__(
        self,
        database: Database,
        context: AuditContext,
        reject: RowReport,
        progress: Callable[[Tally], None],
        *,
        change: RowReport = lambda _row, _what: None,
        name_from: str | None = None,
    ) -> None:
        self._database = database
        self._origin = context
        self._reject_row = reject
        self._progress = progress
        self._change = change
        self._name_from = name_from
        self._tally = Tally()

    async def run(self, file: TextIO) -> Tally:
        people = self._people(file)
        while batch := list(islice(people, BATCH)):
            await self._bring_in(batch)
            self._progress(self._tally)
        return self._tally

    def _people(self, file: TextIO) -> Iterator[tuple[Row, Found]]:
        try:
            for row in rows(file):
                self._tally.read += 1
                if not row.text:
                    self._reject(row, "longer than a row may be, and not kept")
                    continue
                try:
                    found = person(row.value, utc_now(), self._name_from)
                except NotAPerson:
                    _count(self._tally.other_models, str(row.value["model"]))
                except BadRow as bad:
                    self._reject(row, str(bad))
                else:
                    yield row, found
        except BrokenFile as broken:
            self._tally.broken = str(broken)

    async def _bring_in(self, batch: Sequence[tuple[Row, Found]]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                verdicts = await self._database.transaction(self._add, batch)
                break
            except IntegrityError:  # somebody registered in between: look again
                if attempt == ATTEMPTS - 1:
                    raise
        for (row, found), verdict in zip(batch, verdicts, strict=True):
            if verdict is None:
                self._added(row, found)
            elif verdict:
                self._reject(row, verdict)
            else:
                self._tally.already_here += 1

    def _added(self, row: Row, found: Found) -> None:
        self._tally.added += 1
        self._tally.without_password += not found.keeps_password
        for name in found.left_out:
            _count(self._tally.left_out, name)
        if found.changed:
            self._tally.changed += 1
            self._change(row, "; ".join(found.changed))

    async def _add(self, connection: AsyncConnection, batch: Sequence[tuple[Row, Found]]) -> list[str | None]:
        """For each row None if it was added, "" if it was here already, else why it stays out."""
        ids, emails = await repository.taken(connection, [found.user for _, found in batch])
        new: list[User] = []
        verdicts: list[str | None] = []
        for user in (found.user for _, found in batch):
            if user.external_id in ids:
                verdicts.append("")
            elif user.email_key in emails:
                verdicts.append("email: another person has this address; capitals make no difference")
            else:
                verdicts.append(None)
                new.append(user)
                ids.add(str(user.external_id))
                emails.add(user.email_key)
        if new:
            await repository.add(connection, new, self._origin)
        return verdicts

    def _reject(self, row: Row, why: str) -> None:
        self._tally.rejected += 1
        self._reject_row(row, why)


def _count(names: Counter[str], name: str) -> None:
    names[name if name in names or len(names) < MOST_NAMES else "others"] += 1
