"""Reads the services' route files, or says file, line and reason."""

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from gateway.http1.asserted_headers import WRITTEN, is_asserted
from gateway.http1.headers import HEADER_NAME
from gateway.routing.media_types import Media
from gateway.routing.routes import Cors, Limit, Many, Route, RoutesRefused, Some, Strict

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_PATTERN: Final = re.compile(r"/|(?:/(?:[A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}))*(?:/\*)?")
FILE_BYTES_MAX: Final = 1024 * 1024
_PATH_MAX: Final = 1024  # characters,
_SEGMENTS_MAX: Final = 64  # and as many steps to find it
# One parameter a segment: two could divide what they stand for in more than one way.
_REWRITE: Final = re.compile(
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*(?:\{[a-z0-9_]+\}[A-Za-z0-9._~!$&'()*+,;=:@-]*)?)+"
)
# A key of many parts, which Python's reader takes the square of the time for: a file of 1 MiB would hold up a start for
# half an hour. No part is begun twice, so that looking takes as long as the text is.
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_KEY_PARTS_MAX: Final = 16
_LONG_KEY: Final = re.compile(rf"(?<![A-Za-z0-9_\\-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_KEY_PARTS_MAX}}}")
_DAY: Final = 24 * 3600
_BODY_MAX: Final = 2**40
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")
# Where pydantic's own words speak of Python.
_REASONS: Final = {
    "extra_forbidden": "there is no such field",
    "tuple_type": "a list is needed: [ ... ]",
    "model_type": "a table is needed: { ... }",
    "too_long": "the list is too long",
    "string_pattern_mismatch": "it is empty, too long, or holds a character that has no place there",
}


_Seconds = Annotated[float, Field(gt=0, le=_DAY, allow_inf_nan=False)]
_Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,255}$")]  # RFC 6749, section 3.3
_Role = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,255}$")]  # as in tokens


class RouteEntry(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
    path: str
    methods: Annotated[Some[Method], Field(min_length=1)]
    access: Literal["public", "authenticated"] = "authenticated"
    scopes: Some[_Scope] = ()
    roles: Some[_Role] = ()
    limit: Limit | None = None
    first_byte_seconds: _Seconds | None = None
    idle_seconds: _Seconds | None = None
    body_max_bytes: Annotated[int, Field(ge=0, le=_BODY_MAX)] | None = None
    consumes: Some[str] = ()
    produces: Some[str] = ()
    websocket: bool = False
    cors: Cors | None = None
    rewrite: str | None = None
    pass_headers: Some[str] = ()

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        # Only characters that no client needs to escape, so that an escaped spelling can never name a literal segment.
        if not path or not _PATTERN.fullmatch(path):
            raise ValueError("a path is made of /literal, /{parameter} and a last /*")
        if path != "/" and any(segment in (".", "..") for segment in path.split("/")):
            raise ValueError("a path has no dot segments")
        if len(path) > _PATH_MAX or path.count("/") > _SEGMENTS_MAX:
            raise ValueError(f"a path has at most {_SEGMENTS_MAX} segments and {_PATH_MAX} characters")
        return path

    @field_validator("rewrite")
    @classmethod
    def _one_path(cls, rewrite: str | None) -> str | None:
        """What is forwarded is held to what is accepted: nobody behind reads it in another way."""
        if rewrite is None:
            return None
        if len(rewrite) > _PATH_MAX or not _REWRITE.fullmatch(rewrite):
            raise ValueError("rewrite is a path: /segments, with at most one {parameter} in each")
        segments = rewrite.split("/")[1:]
        if any(segment in (".", "..") for segment in segments) or "" in segments[:-1]:
            raise ValueError("rewrite has no empty or dot segments")
        return rewrite

    @field_validator("consumes", "produces")
    @classmethod
    def _media_types(cls, types: tuple[str, ...], field: ValidationInfo) -> tuple[str, ...]:
        for one in types:
            if not _MEDIA_TYPE.fullmatch(one) or (one.endswith("/*") and field.field_name == "produces"):
                raise ValueError(f"{one!r} is not a media type in lower case, like application/json")
        return types

    @field_validator("pass_headers")
    @classmethod
    def _removed_otherwise(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            lower = name.lower().encode()
            if lower in WRITTEN:
                raise ValueError(f"{name!r} is written by the gateway itself")
            if not is_asserted(lower) or not HEADER_NAME.fullmatch(lower):
                raise ValueError(f"{name!r} is none of the headers that are removed from requests")
        return names

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
                usable = (
                    " ".join(f"{{{name}}}" for name in sorted(known)) or "nothing, as path has no parameter"
                )
                raise ValueError(f"rewrite begins with / and can use {usable}")
        return self


class _RoutesFile(Strict):
    routes: Many[RouteEntry] = ()


class Defaults(NamedTuple):
    """What holds where a route says nothing."""

    first_byte_seconds: float = 5.0
    idle_seconds: float = 30.0
    body_max_bytes: int = 1024 * 1024
    cors: Cors | None = None


def load_file(file: Path, defaults: Defaults) -> Iterator[Route]:
    """The routes of one file, for the service that its folder is named like."""
    try:
        text = read_bytes(file, FILE_BYTES_MAX).decode()
        entries = _RoutesFile.model_validate(read_toml(text)).routes
    except tomllib.TOMLDecodeError as error:
        raise RoutesRefused(f"{file}{_syntax(str(error), text)}") from None
    except OSError as error:
        raise RoutesRefused(f"{file}: {error.strerror}") from None
    except ValidationError as error:
        raise RoutesRefused(f"{file}:{_first_fault(error, text)}") from None
    except (ValueError, RecursionError) as error:
        raise RoutesRefused(f"{file}: {error}") from None
    seen: set[str] = set()
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _begins_route(line)] or [1]
    for index, entry in enumerate(entries):
        source = f"{file}:{lines[min(index, len(lines) - 1)]}"
        if entry.name in seen:
            raise RoutesRefused(f"{source}: a second route is named {entry.name}")
        seen.add(entry.name)
        yield _route(file.parent.name, source, entry, defaults)


def read_toml(text: str) -> dict[str, Any]:
    """What the text says, in a time that grows with its length."""
    if (found := _LONG_KEY.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise tomllib.TOMLDecodeError(
            f"a key has more than {_KEY_PARTS_MAX} parts (at line {line}, column 1)"
        )
    return tomllib.loads(text)


def read_bytes(file: Path, most: int) -> bytes:
    """All of a regular file of at most so many bytes; a pipe would be waited for."""
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content


def _syntax(error: str, text: str) -> str:
    """What TOML's reader says, with the line where all other faults have it."""
    reason, _, place = error.rstrip(")").rpartition(" (at ")
    line = re.fullmatch(r"line (\d+), column \d+", place)
    return f":{line[1] if line else len(text.splitlines())}: not TOML: {reason}"


def _first_fault(error: ValidationError, text: str) -> str:
    """Line, field and reason; a misspelt name first: that the right one is missing only follows from it."""
    fault = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = [str(part) for part in fault["loc"]]
    if place[0] != "routes":
        return f"{_line_of_key(text, place[0])}: {place[0]}: a file holds [[routes]] tables and nothing else"
    if len(place) == 1 or (len(place) == 2 and fault["type"] == "model_type"):
        return f"{_line_of_key(text, 'routes')}: routes: each route is a table that begins with [[routes]]"
    where = place[2:]
    line = _line_of(text, int(place[1]), where[0] if where else "")
    reason = _REASONS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    return f"{line}: {'.'.join(where)}: {reason}" if where else f"{line}: {reason}"


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
        pass_headers=tuple(dict.fromkeys(name.lower().encode() for name in entry.pass_headers)),
    )


def _begins_route(line: str) -> bool:
    return line.strip().startswith("[[routes]]")


def _line_of(text: str, index: int, key: str) -> int:
    """The line of the index-th [[routes]] table, or of a key in it; TOML's reader does not say."""
    found = -1
    start = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if _begins_route(line):
            found += 1
            if found > index:
                break
            start = number
        elif found == index and key and re.match(rf"\s*(\[routes\.)?{re.escape(key)}\s*[=.\]]", line):
            return number
    return start


def _line_of_key(text: str, key: str) -> int:
    """The line where a key of the whole file, or the table of its name, stands first."""
    place = re.compile(rf"\s*\[*{re.escape(key)}\s*[=.\]]")
    return next((number for number, line in enumerate(text.splitlines(), 1) if place.match(line)), 1)
