"""The table of routes: matched on the bytes of the path, admitting by scope and role."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, field_validator, model_validator

from gateway.http1 import origins
from gateway.http1.head import BodyTooLarge, Head
from gateway.http1.origins import Origin
from gateway.routing.media_types import Media
from service_kit.dependencies import InsufficientRole, InsufficientScope
from service_kit.exception_handlers import MethodNotAllowed
from service_kit.problems import Problem
from service_kit.tokens import Caller

_REMEMBERED: Final = 4096  # paths,
_REMEMBERED_MAX: Final = 128  # of so many bytes at most
OWN: Final = "gateway"  # the service of the gateway's own pages
_FIELDS_MAX: Final = 64  # of a table in a file,
_LISTED_MAX: Final = 100  # and elements of a list
_REASON_MAX: Final = 1000  # characters
_YEAR: Final = 366 * 24 * 3600
_COUNT_MAX: Final = 1_000_000_000
LOOPBACK: Final = "loopback"  # among origins: those of localhost, 127.0.0.1 and [::1], with any port


class NoRoute(Problem):
    status, code, title = HTTPStatus.NOT_FOUND, "no_route", "Nothing is served at this path"
    detail = "`/openapi.json` lists every path, and `/docs` shows them."


# As they stand in a response: `*` is a name, too.
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,255}$")]


class RoutesRefused(Exception):
    """A table that cannot be used; the message names file, line and reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:_REASON_MAX])  # a log takes it, and a file's words may be long


class Strict(BaseModel):
    """Part of a routes file: what nobody has heard of is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, said: Any) -> Any:
        # A fault is an object of a kilobyte: those of a whole file would be more than a container's memory.
        if isinstance(said, dict) and len(said) > _FIELDS_MAX:
            raise ValueError(f"more than {_FIELDS_MAX} fields")
        return said


# A list is refused at its first fault, for the same reason; what it holds may stand in every response.
Item = TypeVar("Item")
Many = Annotated[tuple[Item, ...], FailFast()]
Some = Annotated[tuple[Item, ...], FailFast(), Field(max_length=_LISTED_MAX)]


class Limit(Strict):
    """`rate` requests per `per_seconds`, of which `burst` may come at once."""

    rate: Annotated[int, Field(gt=0, le=_COUNT_MAX)]
    per_seconds: Annotated[float, Field(gt=0, le=_YEAR, allow_inf_nan=False)] = 1.0
    burst: Annotated[int, Field(gt=0, le=_COUNT_MAX)] | None = None
    by: Literal["address", "caller"] = "caller"

    @model_validator(mode="after")
    def _whole_within_a_year(self) -> "Limit":
        # Redis counts in doubles, and refuses the whole pipeline where a time is beyond what it knows.
        if (self.burst or self.rate) * self.per_seconds / self.rate > _YEAR:
            raise ValueError("a burst takes more than a year to come back")
        return self


class Cors(Strict):
    """The exact origins that may read a route's answers."""

    origins: Many[str]
    expose: Some[HeaderName] = ()
    headers: Some[HeaderName] = ("authorization", "content-type")
    credentials: bool = False
    max_age_seconds: Annotated[int, Field(ge=0, le=_YEAR)] = 600

    @field_validator("origins")
    @classmethod
    def _exact(cls, listed: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin if origin in ("*", LOOPBACK) else _origin(origin) for origin in listed)

    @model_validator(mode="after")
    def _no_credentials_for_everyone(self) -> "Cors":
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials cannot be allowed for every origin")
        return self

    def lists(self, origin: Origin) -> bool:
        return bytes(origin).decode() in self.origins or (LOOPBACK in self.origins and origin.is_loopback)


def _origin(text: str) -> str:
    """As browsers write it, so that one that is written with its scheme's own port is found, too."""
    origin = origins.parse(text.encode())
    if origin is None or not text.startswith("http") or text != text.lower():
        raise ValueError(f"{text!r} is not an origin (scheme://host[:port], lower case)")
    return bytes(origin).decode()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One rule: what it matches, who may pass, where it leads and within which bounds."""

    service: str
    name: str
    path: str
    methods: frozenset[str]
    source: str  # file:line
    public: bool = False
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    limit: Limit | None = None
    first_byte_seconds: float = 5.0
    idle_seconds: float = 30.0
    body_max_bytes: int = 1024 * 1024
    media: Media | None = None  # any, both ways
    websocket: bool = False
    cors: Cors | None = None
    rewrite: str | None = None
    pass_headers: tuple[bytes, ...] = ()  # in lower case

    def take(self, head: Head) -> None:
        """Refuses a body that is announced too large, and what is of a media type that has no place here; a body
        without a length is counted as it comes."""
        if head.length is not None and head.length > self.body_max_bytes:
            raise BodyTooLarge(f"The route takes at most {self.body_max_bytes} bytes.")
        if self.media is not None:
            self.media.check(head)

    def admit(self, caller: Caller | None) -> None:
        """Refuses a caller who lacks a scope (all are needed) or a role (one is enough)."""
        if caller is None:
            return
        for scope in self.scopes:
            if not caller.has_scope(scope):
                raise InsufficientScope(self.scopes)
        if self.roles and self.roles.isdisjoint(caller.roles):
            raise InsufficientRole(f"needs {' or '.join(sorted(self.roles))}")

    def rewritten(self, target: bytes) -> bytes:
        """The target that is forwarded: the same bytes, unless the route moves the path."""
        if self.rewrite is None:
            return target
        path, question, query = target.partition(b"?")
        segments = path.decode("ascii").split("/")
        names = self.path.split("/")
        values = {name[1:-1]: segments[i] for i, name in enumerate(names) if name.startswith("{")}
        values["rest"] = "/".join(segments[len(names) - 1 :])
        moved = re.sub(r"\{([a-z0-9_]+)\}", lambda match: values[match.group(1)], self.rewrite)
        return moved.encode("ascii") + question + query


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    rest: dict[bytes, Route] = field(default_factory=dict)
    here: dict[bytes, Route] = field(default_factory=dict)

    def find(self, segments: list[bytes], at: int) -> dict[bytes, Route]:
        """Literal beats parameter beats rest, decided from the left."""
        if at == len(segments):
            return self.here
        segment = segments[at]
        child = self.literals.get(segment)
        if child is not None:
            found = child.find(segments, at + 1)
            if found:
                return found
        if segment and self.parameter is not None:
            found = self.parameter.find(segments, at + 1)
            if found:
                return found
        return self.rest if segment else {}


class Routes:
    """All rules. The most exact pattern of a path decides, and its methods are the path's: what is written out for one
    method is never the value of a parameter for another. `cors` holds for each route that has none of its own, and
    where there is no route."""

    def __init__(self, routes: Iterable[Route] = (), cors: Cors | None = None) -> None:
        self.cors = cors
        self._tree = _Node()
        self._found: dict[bytes, dict[bytes, Route]] = {}  # by path: what was looked for before
        self._all: list[Route] = []
        for route in routes:
            self._add(route if route.cors or not cors else replace(route, cors=cors))

    def __iter__(self) -> Iterator[Route]:
        return iter(self._all)

    def _add(self, route: Route) -> None:
        self._all.append(route)
        methods = self._methods_at(route.path)
        for method in map(str.encode, route.methods):
            if (present := methods.get(method)) is not None:
                raise RoutesRefused(overlap_of(route, present, method.decode()))
            methods[method] = route

    def _methods_at(self, pattern: str) -> dict[bytes, Route]:
        node = self._tree
        for segment in pattern.encode().split(b"/")[1:]:
            if segment == b"*":
                return node.rest
            if segment.startswith(b"{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        return node.here

    def match(self, method: bytes, path: bytes) -> Route:
        """The one route of this method and path."""
        methods = self.at(path)
        route = of_method(methods, method)
        if route is None:
            raise nothing_for(methods, path, self)
        return route

    def at(self, path: bytes) -> Mapping[bytes, Route]:
        """The routes of a path, by method."""
        return self._found.get(path) or self._find(path)

    def find(self, method: bytes, path: bytes) -> Route | None:
        return self._find(path).get(method)

    def _find(self, path: bytes) -> dict[bytes, Route]:
        methods = self._tree.find(path.split(b"/"), 1)
        if methods and len(path) <= _REMEMBERED_MAX:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[path] = methods
        return methods


def overlap_of(route: Route, present: Route, method: str) -> str:
    """Names both rules that a request could match."""
    return (
        f"{route.source}: {method} {route.path} ({route.name}) overlaps "
        f"{present.path} ({present.name}) of {present.source}"
    )


def of_method(methods: Mapping[bytes, Route], method: bytes) -> Route | None:
    route = methods.get(method)
    return methods.get(b"GET") if route is None and method == b"HEAD" else route


def nothing_for(methods: Mapping[bytes, Route], path: bytes, routes: Routes) -> Problem:
    """Why there is no route: the path has others, or none, or would have some without the slash at its end."""
    if methods:
        return MethodNotAllowed(headers={"Allow": allowed(methods)})
    # The pattern and not the path: nothing that a client sent comes back.
    meant = next(iter(routes.at(path[:-1]).values()), None) if path.endswith(b"/") else None
    return NoRoute(f"`{meant.path}` is served, without a slash at its end." if meant else "")


def allowed(methods: Iterable[bytes]) -> str:
    """As Allow lists them: OPTIONS is answered wherever anything is."""
    names = {method.decode() for method in methods} | {"OPTIONS"}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))
