"""What can be done here."""

from collections.abc import Iterable, Sequence

from example_service.items.exceptions import NotFound
from example_service.items.models import Entry


class Service:
    """Finds entries by their keys."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.key: entry for entry in entries}

    def list(self) -> Sequence[Entry]:
        return tuple(self._entries.values())

    def find(self, key: str) -> Entry:
        if (entry := self._entries.get(key)) is None:
            raise NotFound
        return entry
