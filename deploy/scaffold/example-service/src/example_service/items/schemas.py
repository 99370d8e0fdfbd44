"""What callers see."""

from pydantic import BaseModel

from example_service.items.models import Entry


class EntryOut(BaseModel):
    key: str
    title: str

    @classmethod
    def of(cls, entry: Entry) -> "EntryOut":
        return cls(key=entry.key, title=entry.title)
