"""Reads the services' route files into the table, or says file, line and reason."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from gateway.media import Media
from gateway.routes import Cors, Limit, Route, Routes, RoutesRefused, Strict

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_PATTERN: Final = re.compile(r"/|(?:/(?:[A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}))*(?:/\*)?")


_NAME: Final = r"[a-z0-9][a-z0-9!#$&^_.+-]*"
_MediaType = Annotated[str, Field(pattern=rf"^{_NAME}/{_NAME}$")]
_MediaRange = Annotated[str, Field(pattern=rf"^{_NAME}/(\*|{_NAME})$")]


class RouteEntry(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    path: str
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    access: Literal["public", "authenticated"] = "authenticated"
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    limit: Limit | None = None
    first_byte_seconds: Annotated[float, Field(gt=0)] | None = None
    idle_seconds: Annotated[float, Field(gt=0)] | None = None
    body_max_bytes: Annotated[int, Field(ge=0)] | None = None
    consumes: tuple[_MediaRange, ...] = ()
    produces: tuple[_MediaType, ...] = ()
    websocket: bool = False
    cors: Cors | None = None
    rewrite: str | None = None

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        # Only characters that no client needs to escape, so that an escaped spelling can never name a literal segment.
        if not path or not _PATTERN.fullmatch(path):
            raise ValueError("a path is made of /literal, /{parameter} and a last /*")
        if path != "/" and any(segment in (".", "..") for segment in path.split("/")):
            raise ValueError("a path has no dot segments")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> "RouteEntry":
        if self.access == "public" and (self.scopes or self.roles):
            raise ValueError("a public route cannot ask for scopes or roles")
        if self.access == "public" and self.limit is not None and self.limit.by == "caller":
            raise ValueError("a public route has no caller to limit by: say by = 'address'")
        if self.websocket and "GET" not in self.methods:
            raise ValueError("a websocket route needs GET")
        if self.rewrite is not None:
            known = set(re.findall(r"\{([a-z0-9_]+)\}", self.path)) | (
                {"rest"} if self.path.endswith("*") else set()
            )
            unknown = set(re.findall(r"\{([a-z0-9_]+)\}", self.rewrite)) - known
            if unknown or not self.rewrite.startswith("/"):
                raise ValueError(f"rewrite must begin with / and use only {sorted(known)}")
        return self


class _RoutesFile(Strict):
    routes: tuple[RouteEntry, ...] = ()


class Defaults(NamedTuple):
    """What holds where a route says nothing."""

    first_byte_seconds: float = 5.0
    idle_seconds: float = 30.0
    body_max_bytes: int = 1024 * 1024


def load(folder: Path, own: Iterable[Route] = (), defaults: Defaults | None = None) -> Routes:
    """The table of `folder/<service>/*.toml`, after the gateway's own routes."""
    if not folder.is_dir():
        raise RoutesRefused(f"{folder}: there is no such folder (ROUTES_DIR)")
    routes = list(own)
    for file in sorted(folder.glob("*/*.toml")):
        routes.extend(_load_file(file, defaults or Defaults()))
    return Routes(routes)


def _load_file(file: Path, defaults: Defaults) -> Iterator[Route]:
    try:
        text = file.read_text(encoding="utf-8")
        entries = _RoutesFile.model_validate(tomllib.loads(text)).routes
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RoutesRefused(f"{file}: {error}") from None
    except ValidationError as error:
        # A misspelt name first: that the right one is missing only follows from it.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        where = [str(part) for part in first["loc"][2:]]
        index = first["loc"][1] if len(first["loc"]) > 1 else 0
        line = _line_of(text, int(index) if isinstance(index, int) else 0, where[0] if where else "")
        field_name = f"{'.'.join(where)}: " if where else ""
        reason = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
        raise RoutesRefused(f"{file}:{line}: {field_name}{reason}") from None
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        source = f"{file}:{_line_of(text, index, '')}"
        if entry.name in seen:
            raise RoutesRefused(f"{source}: a second route is named {entry.name}")
        seen.add(entry.name)
        yield _route(file.parent.name, source, entry, defaults)


def _route(service: str, source: str, entry: RouteEntry, defaults: Defaults) -> Route:
    return Route(
        service=service,
        name=entry.name,
        path=entry.path,
        methods=frozenset(entry.methods),
        source=source,
        public=entry.access == "public",
        scopes=frozenset(entry.scopes),
        roles=frozenset(entry.roles),
        limit=entry.limit,
        first_byte_seconds=entry.first_byte_seconds or defaults.first_byte_seconds,
        idle_seconds=entry.idle_seconds or defaults.idle_seconds,
        body_max_bytes=defaults.body_max_bytes if entry.body_max_bytes is None else entry.body_max_bytes,
        media=Media(entry.consumes, entry.produces) if entry.consumes or entry.produces else None,
        websocket=entry.websocket,
        cors=entry.cors,
        rewrite=entry.rewrite,
    )


def _line_of(text: str, index: int, key: str) -> int:
    """The line of the index-th [[routes]] table, or of a key in it; TOML's reader does not say."""
    found = -1
    start = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("[[routes]]"):
            found += 1
            if found > index:
                break
            start = number
        elif found == index and key and re.match(rf"\s*{re.escape(key)}\s*[=.]", line):
            return number
    return start
