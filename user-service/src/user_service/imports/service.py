"""Brings a file of people in, some hundred at a time; running it again brings in only who is missing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TextIO

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit.models import Origin
from user_service.database import Database
from user_service.imports import repository
from user_service.imports.people import BadRow, NotAPerson, person
from user_service.imports.reading import BrokenFile, Row, rows
from user_service.users.models import User, utc_now

BATCH: Final = 500
ATTEMPTS: Final = 3

Found = tuple[Row, User, bool]
Reject = Callable[[Row, str], None]


@dataclass(slots=True)
class Tally:
    read: int = 0
    added: int = 0
    already_here: int = 0
    without_password: int = 0
    rejected: int = 0
    other_models: int = 0
    broken: str = ""  # why nothing after some line was read


class Importer:
    """`reject` is told each row that stays out, and why; `progress` the tally after each batch."""

    def __init__(
        self, database: Database, origin: Origin, reject: Reject, progress: Callable[[Tally], None]
    ) -> None:
        self._database = database
        self._origin = origin
        self._reject_row = reject
        self._progress = progress
        self._tally = Tally()

    async def run(self, file: TextIO) -> Tally:
        people = self._people(file)
        while batch := list(islice(people, BATCH)):
            await self._bring_in(batch)
            self._progress(self._tally)
        return self._tally

    def _people(self, file: TextIO) -> Iterator[Found]:
        try:
            for row in rows(file):
                self._tally.read += 1
                if not row.text:
                    self._reject(row, "longer than a row may be, and not kept")
                    continue
                try:
                    found, keeps_password = person(row.value, utc_now())
                except NotAPerson:
                    self._tally.other_models += 1
                except BadRow as bad:
                    self._reject(row, str(bad))
                else:
                    yield row, found, keeps_password
        except BrokenFile as broken:
            self._tally.broken = str(broken)

    async def _bring_in(self, batch: Sequence[Found]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                verdicts = await self._database.transaction(lambda connection: self._add(connection, batch))
                break
            except IntegrityError:  # somebody registered in between: look again
                if attempt == ATTEMPTS - 1:
                    raise
        for (row, _, keeps_password), verdict in zip(batch, verdicts, strict=True):
            if verdict is None:
                self._tally.added += 1
                self._tally.without_password += not keeps_password
            elif verdict:
                self._reject(row, verdict)
            else:
                self._tally.already_here += 1

    async def _add(self, connection: AsyncConnection, batch: Sequence[Found]) -> list[str | None]:
        """For each row None if it was added, "" if it was here already, else why it stays out."""
        ids, emails = await repository.taken(connection, [user for _, user, _ in batch])
        new: list[User] = []
        verdicts: list[str | None] = []
        for _, user, _ in batch:
            if user.external_id in ids:
                verdicts.append("")
            elif user.email_key in emails:
                verdicts.append("email: another person has this address")
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
