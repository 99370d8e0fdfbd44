"""The code says things in the field's own words: a response is a response, and a limit has a lease."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PROJECTS: Final = ("service-kit", "auth-service", "user-service", "gateway")

# What a name is made of, and what to say instead. Words in prose are a reader's matter.
WORDS: Final = {
    "answer": "response",
    "answers": "responses",
    "answered": "responded, or what was recorded",
    "asked": "request, or what was required",
    "told": "logged, notified, or the entry itself",
    "edge": "connection",
    "passage": "proxy request",
    "journal": "access log",
    "ledger": "limit store",
    "crowd": "concurrency",
    "lane": "bulkhead",
    "presented": "verified refresh token",
    "narrowed": "restrict scope",
    "beat": "quantum",
    "unfit": "incompatible version",
    "house": "retention, or the gateway under test",
    "heap": "malloc",
}
NAMES: Final = {
    "given": "credentials, or what was passed",
    "Line": "FlowControl",
    "Front": "WorkerState",
    "Lease": "LimitLease",
    "Sockets": "LongLivedConnections",
    "Home": "the class itself",
    "Asker": "the class itself",
    "Served": "RequestObserver, or the class itself",
    "Names": "Resolver",
    "Watch": "RouteWatcher",
    "Identity": "Authenticator",
    "TwoBinds": "PortDispatch",
    "OneDeadline": "RequestDeadline",
    "always": "run_forever",
    "revealed": "secret_value",
    "settle": "wait_durable, or sync",
    "give_back": "refund",
    "binds": "port_dispatch",
    "dispatch": "upstream",
    "streaming": "exchange",
    "tables": "files",
    "foundation": "compatibility",
}
# Elsewhere an origin is RFC 6454's.
AUDITED: Final = {"auth-service", "user-service"}


def test_no_module_class_or_function_has_a_name_of_its_own_invention() -> None:
    found = [
        f"{place}: {name} -> {better}"
        for project in PROJECTS
        for place, name in defined(ROOT / project / "src")
        if (better := instead_of(name, project)) is not None
    ]
    assert not found, "\n".join(found)


def test_names_are_read_as_people_read_them() -> None:
    assert instead_of("begin_answer", "gateway") == "response"
    assert instead_of("BadAnswer", "gateway") == "response"
    assert instead_of("Origin", "auth-service") == "AuditContext"
    assert instead_of("Origin", "gateway") is None
    assert instead_of("outline", "gateway") is None


def instead_of(name: str, project: str) -> str | None:
    """What to say instead of a name, or of a word in it; None where it may stay."""
    if name in NAMES:
        return NAMES[name]
    if name == "Origin" and project in AUDITED:
        return "AuditContext"
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return next((WORDS[part.lower()] for part in parts if part.lower() in WORDS), None)


def defined(folder: Path) -> Iterator[tuple[str, str]]:
    """The names of modules, classes and functions, each with its file and line."""
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(ROOT)
        yield str(place), path.stem
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{place}:{node.lineno}", node.name
