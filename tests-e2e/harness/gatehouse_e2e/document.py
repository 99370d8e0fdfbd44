"""The published OpenAPI document, as the list of operations that a test walks through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "put", "post", "patch", "delete", "head", "options")


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    public: bool

    def at(self, value: str) -> str:
        """The path with every parameter filled in with that value."""
        return re.sub(r"\{[^}]*\}", value, self.path)


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                security = item[method].get("security", document.get("security"))
                yield Operation(method.upper(), path, public=not security)
