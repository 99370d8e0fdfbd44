"""Takes changed routes into use: watched by each worker, and read by the master before a HUP swaps the workers."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.routes import Routes, RoutesRefused

_log = logging.getLogger("gateway.routes")
_SETTLED_SECONDS: Final = 0.2
# Of the master, for which its workers' heartbeats wait: whoever writes on and on is not waited for.
_LOOKS: Final = 25
_Stamp = tuple[tuple[str, int, int, int], ...]


class Watch:
    """Looks at the files once in a while. A table that cannot be used changes nothing but a log line and a metric."""

    def __init__(
        self,
        folder: Path,
        read: Callable[[], Routes],
        use: Callable[[Routes], None],
        seconds: float,
        settled_seconds: float = _SETTLED_SECONDS,
    ) -> None:
        self._folder = folder
        self._read = read
        self._use = use
        self._seconds = seconds
        self._settled_seconds = settled_seconds
        self._stamp = _stamp_of(folder)
        self.used = 0
        self.refusals = 0
        self.refused = False  # whether what is on disk now was refused

    def begin(self, known: Routes | None) -> Routes:
        """The table to begin with; `known` while the files, which were good once, cannot be used."""
        try:
            return self._read()
        except RoutesRefused as refused:
            if known is None:
                raise
            self.refused = True
            self.refusals += 1
            _log.error("the routes cannot be used, those that could be used last stay: %s", refused)
            return known

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Reads the table again if a file of it changed; requests go on meanwhile, and under one table each."""
        stamp = await self._settled()
        if stamp == self._stamp:
            return
        # Noted before reading: what is written meanwhile is read at the next look.
        self._stamp = stamp
        try:
            routes = await asyncio.to_thread(self._read)
        except RoutesRefused as refused:
            self.refused = True
            self.refusals += 1
            _log.error("the routes changed and cannot be used, the old ones stay: %s", refused)
        else:
            self.refused = False
            self.used += 1
            self._use(routes)
            _log.info("the routes changed: %d in use, the gateway's own pages among them", len(list(routes)))

    async def _settled(self) -> _Stamp:
        """The files as they are left alone: half of one that is being saved is a table too, of half the routes."""
        stamp = await asyncio.to_thread(_stamp_of, self._folder)
        while stamp != self._stamp:
            await asyncio.sleep(self._settled_seconds)
            before, stamp = stamp, await asyncio.to_thread(_stamp_of, self._folder)
            if stamp == before:
                break
        return stamp


def _stamp_of(folder: Path) -> _Stamp:
    """What tells one state of the files from another."""
    found = []
    for file in sorted((*folder.glob("*/*.toml"), *folder.glob("*.toml"))):  # the latter are refused
        try:
            stat = file.stat()
        except OSError:
            continue  # gone since the folder was listed
        found.append((str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def unless_refused(
    reload: Callable[[], None],
    read: Callable[[], Routes],
    folder: Path,
    settled_seconds: float = _SETTLED_SECONDS,
) -> Callable[[], None]:
    """gunicorn's answer to HUP, but only for routes that can be used: new workers could not start with others."""

    def guarded() -> None:
        _wait_until_saved(folder, settled_seconds)
        try:
            read()
        except RoutesRefused as refused:
            _log.error("no reload, the old workers stay: %s", refused)
        else:
            reload()

    return guarded


def _wait_until_saved(folder: Path, settled_seconds: float) -> None:
    """As Watch waits: new workers would start with half a file."""
    stamp = _stamp_of(folder)
    for _ in range(_LOOKS):
        time.sleep(settled_seconds)
        before, stamp = stamp, _stamp_of(folder)
        if stamp == before:
            return
