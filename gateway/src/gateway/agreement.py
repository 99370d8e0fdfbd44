"""`python -m gateway.agreement FOLDER…`: a service answers what its routes forward, and they forward what it answers.

A folder holds `routes/*.toml` and `contract/openapi.json`, whose `x-unlisted` is what else is answered.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gateway.routing.files import Defaults, load_file
from gateway.routing.routes import Route, Routes, RoutesRefused, of_method

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a contract says is answered; `values` are the schemas of the path's parameters."""

    method: str
    path: str
    values: Mapping[str, Mapping[str, Any]]

    def covers(self, pattern: str) -> bool:
        """Whether every path of the pattern is one of this operation: a literal may be a parameter's value."""
        own, other = self.path.split("/"), pattern.split("/")
        return len(own) == len(other) and all(map(self._takes, own, other))

    def _takes(self, own: str, other: str) -> bool:
        if not own.startswith("{"):
            return own == other
        return other.startswith("{") or (other != "*" and _admits(self.values.get(own[1:-1], {}), other))


def _admits(schema: Mapping[str, Any], value: str) -> bool:
    """Whether a parameter can have this value, as far as its schema says."""
    if schema.get("format") == "uuid":
        try:
            return bool(UUID(value))
        except ValueError:
            return False
    return (
        value in schema.get("enum", [value])
        and re.search(schema.get("pattern", ""), value) is not None
        and (schema.get("type") != "integer" or value.isdecimal())
    )


def operations_of(document: Mapping[str, Any]) -> Iterator[Operation]:
    """What the contract says is answered, listed for programs or not."""
    for path, item in chain(document.get("paths", {}).items(), document.get("x-unlisted", {}).items()):
        for method in map(str.upper, item):
            if method in _METHODS:
                parameters = item.get("parameters", []) + item[method.lower()].get("parameters", [])
                values = {each["name"]: each.get("schema", {}) for each in parameters if "name" in each}
                yield Operation(method, path, values)


class _Reach:
    """Which routes lead to an operation: as the gateway matches, and behind what a rewrite makes of the path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._table = Routes(routes)
        self._moved = {
            route: replace(
                route, path=route.rewritten(route.path.encode()).decode().partition("?")[0], rewrite=None
            )
            for route in routes
        }

    def of(self, operation: Operation) -> Iterator[Route]:
        method, path = operation.method.encode(), operation.path.encode()
        chosen = of_method(self._table.at(path), method)
        for route, moved in self._moved.items():
            leads = route is chosen if route.rewrite is None else of_method(Routes([moved]).at(path), method)
            if leads or (operation.method in route.methods and operation.covers(moved.path)):
                yield route


def disagreements(folder: Path) -> Iterator[str]:
    """One line for each route that nothing answers, and for each operation that no route forwards."""
    contract, files = folder / "contract/openapi.json", sorted(folder.glob("routes/*.toml"))
    routes = [route for file in files for route in load_file(file, Defaults())]
    reach = _Reach(routes)
    responded = set()
    for operation in operations_of(json.loads(contract.read_text("utf-8"))):
        found = list(reach.of(operation))
        if not found:
            yield f"{contract}: {operation.method} {operation.path} is forwarded by no route of {folder}/routes/*.toml"
        responded |= {(route, operation.method) for route in found}
        if operation.method == "GET":  # as a service answers HEAD
            responded |= {(route, "HEAD") for route in reach.of(replace(operation, method="HEAD"))}
    for route in routes:
        # The documents know no WebSockets.
        for method in sorted(route.methods - ({"GET"} if route.websocket else set())):
            if (route, method) not in responded:
                yield f"{route.source}: {method} {route.path} ({route.name}) is answered by nothing in {contract}"


def main(folders: Sequence[str]) -> int:
    """0: they agree; 1: they do not."""
    failed = False
    for folder in map(Path, folders):
        if not (folder / "contract/openapi.json").is_file():
            print(f"{folder}: its routes are not compared, for there is no contract/openapi.json")
            continue
        try:
            for line in disagreements(folder):
                failed = True
                print(line, file=sys.stderr)
        except (RoutesRefused, ValueError) as refused:
            failed = True
            print(refused, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
