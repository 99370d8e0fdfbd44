"""Takes changed routes into use: watched by each worker, and read by the master before a HUP swaps the workers."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from gateway.routing.publications import Fingerprint, fingerprints
from gateway.routing.route_table import RouteTable
from gateway.routing.routes import RoutesRefused

_log = logging.getLogger("gateway.routes")
_SETTLED_SECONDS: Final = 0.2
# Whoever writes on and on is not waited for longer: the workers' heartbeats wait for the master.
_LOOKS: Final = 25


class Read(Protocol):
    """Reads the table anew, of which services that are being written keep what they have in the last one."""

    def __call__(self, last: RouteTable | None = None, moving: Collection[str] = ()) -> RouteTable: ...


class RouteWatcher:
    """Looks at the files once in a while. What cannot be used changes nothing but a log line and a metric."""

    def __init__(
        self,
        folder: Path,
        read: Read,
        use: Callable[[RouteTable], None],
        seconds: float,
        settled_seconds: float = _SETTLED_SECONDS,
    ) -> None:
        self._folder = folder
        self._read = read
        self._use = use
        self._seconds = seconds
        self._settled_seconds = settled_seconds
        self._unreadable = ""
        self.table = RouteTable()
        self.begun = False  # whether any service has had a route
        self.used = 0
        self.refusals = 0

    def begin(self, known: RouteTable | None) -> RouteTable:
        """The table to begin with; services whose files cannot be used have what they have in `known`."""
        try:
            self._take(self._read(known))
        except RoutesRefused as refused:
            if known is None:
                raise
            self._take(known)
            self._note_unreadable(str(refused))
        return self.table

    async def check(self) -> str | None:
        """For /readyz: who has just started waits for the first service, who serves does not stop for the last."""
        return None if self.begun else "no service has published routes that can be used"

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Reads what changed; requests go on meanwhile, and under one table each."""
        try:
            await self._look()
        except RoutesRefused as refused:
            self._note_unreadable(str(refused))
        else:
            self._unreadable = ""

    async def _look(self) -> None:
        found = await asyncio.to_thread(fingerprints, self._folder)
        for _ in range(_LOOKS):
            if not _changed(self.table, found):
                return
            await asyncio.sleep(self._settled_seconds)
            before, found = found, await asyncio.to_thread(fingerprints, self._folder)
            # Half of a file that is being saved is a table too, of half the routes. Only its own service waits for it.
            moving = {name for name in found.keys() | before.keys() if found.get(name) != before.get(name)}
            if _changed(self.table, found) - moving:
                table = await asyncio.to_thread(self._read, self.table, moving)
                in_use = self.table
                self._take(table)
                if table.routes is not in_use.routes or table.endpoints != in_use.endpoints:
                    self.used += 1
                    self._use(table)
                    _log.info("the routes changed: %s", ", ".join(table.used) or "no service has any")

    def _take(self, table: RouteTable) -> None:
        for name, refusal in table.refused.items():
            if self.table.refused.get(name) != refusal:
                self.refusals += 1
                kept = "those in use stay" if name in table.used else "it has none"
                _log.error("the routes of %s cannot be used, %s: %s", name, kept, refusal.reason)
        for name in self.table.refused.keys() - table.refused.keys():
            _log.info("the routes of %s can be used again, or are gone", name)
        self.table = table
        self.begun = self.begun or bool(table.used)

    def _note_unreadable(self, reason: str) -> None:
        if reason != self._unreadable:
            self._unreadable = reason
            self.refusals += 1
            _log.error("the routes cannot be read, those in use stay: %s", reason)

    @property
    def refused(self) -> dict[tuple[str, ...], float]:
        """By service and by the one that it overlaps; what concerns all of them has no service."""
        found: dict[tuple[str, ...], float] = {
            (name, refusal.overlaps): 1 for name, refusal in self.table.refused.items()
        }
        return found | {("", ""): 1} if self._unreadable else found


def _changed(table: RouteTable, found: dict[str, Fingerprint]) -> set[str]:
    """The services whose files are not those that were read for the table."""
    known = {name: publication.fingerprint for name, publication in table.read.items()}
    return {name for name in known.keys() | found.keys() if known.get(name) != found.get(name)}


class MasterRouteWatcher:
    """Keeps the master's table as new as its workers': whoever is forked while a service's files cannot be used begins
    with what could be used last."""

    def __init__(self, folder: Path, read: Callable[[], RouteTable]) -> None:
        self._folder = folder
        self._read = read
        self._known = RouteTable()
        self._found: dict[str, Fingerprint] = {}

    def before(self, work: Callable[[], None]) -> Callable[[], None]:
        """The master's work of each second, preceded by a look at the files."""

        def look_and_work() -> None:
            with suppress(RoutesRefused):  # each worker says it
                self.look()
            work()

        return look_and_work

    def look(self) -> None:
        """Reads what has changed, and not since the last look."""
        before, self._found = self._found, fingerprints(self._folder)
        if self._found == before and _changed(self._known, self._found):
            self._known = self._read()
            _log.info("new workers begin with the routes of %s", ", ".join(self._known.used) or "no service")


def unless_refused(
    reload: Callable[[], None],
    read: Callable[[], object],
    folder: Path,
    settled_seconds: float = _SETTLED_SECONDS,
) -> Callable[[], None]:
    """gunicorn's answer to HUP, but only if the folder can be read: new workers could not start without it."""

    def guarded() -> None:
        try:
            _wait_until_saved(folder, settled_seconds)
            read()
        except RoutesRefused as refused:
            _log.error("no reload, the old workers stay: %s", refused)
        else:
            reload()

    return guarded


def _wait_until_saved(folder: Path, settled_seconds: float) -> None:
    """As Watch waits: new workers would start with half a file."""
    found = fingerprints(folder)
    for _ in range(_LOOKS):
        time.sleep(settled_seconds)
        before, found = found, fingerprints(folder)
        if found == before:
            return
