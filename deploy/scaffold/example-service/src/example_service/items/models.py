"""What there is, as the service knows it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    title: str


# What the service begins with. A store of your own takes its place: see user-service's database.py and migrations.
BUILT_IN: Final = (Entry("first", "The first one"), Entry("second", "The second one"))
