"""The table of all services: each enters it whole or stays out of it, and what is in use is not taken from anybody."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from gateway.routing.endpoints import Endpoints
from gateway.routing.files import Defaults
from gateway.routing.publications import Publication, fingerprints, read_publication
from gateway.routing.routes import Route, Routes, overlap_of

# Nobody signs in without these, so no other service can keep a path from them.
_FIRST: Final = ("auth-service", "user-service")
_NO_STAMP: Final = datetime.max.replace(tzinfo=UTC)
_PARAMETER: Final = re.compile(r"\{[^{}]*\}")
_REST, _PARAMETER_SEGMENT, _LITERAL = range(3)  # how exact a segment of a path is


class Refusal(NamedTuple):
    """Why the files of a service cannot be used, and the service that has one of its paths."""

    reason: str
    overlaps: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class RouteTable:
    """What is in use, what was read for it, and what of that is refused, by service."""

    routes: Routes = field(default_factory=Routes)
    read: Mapping[str, Publication] = field(default_factory=dict)
    used: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoints] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)


def read_table(
    folder: Path,
    own: Sequence[Route] = (),
    defaults: Defaults | None = None,
    last: RouteTable | None = None,
    moving: Collection[str] = (),
) -> RouteTable:
    """The table of `folder/<service>/*.toml` after the gateway's own routes. A service whose files cannot be used keeps
    what it has in `last`; so do those in `moving`, which are being written."""
    defaults = defaults or Defaults()
    before = last or RouteTable()
    read = {name: before.read[name] for name in moving if name in before.read}
    for name, fingerprint in fingerprints(folder).items():
        known = before.read.get(name)
        if known is not None and known.fingerprint == fingerprint:
            read[name] = known
        elif name not in moving:
            read[name] = read_publication(folder / name, fingerprint, defaults)
    endpoints = {
        name: found for name, one in read.items() if (found := one.endpoints or before.endpoints.get(name))
    }
    wanted = {
        name: one.routes
        for name, one in sorted(read.items(), key=lambda item: _rank(item[1]))
        if one.routes is not None and name in endpoints
    }
    kept = {name: before.used[name] for name in sorted(read) if name in before.used}
    used, refused = combine(own, wanted, kept)
    refused |= {name: Refusal(one.fault) for name, one in read.items() if one.fault}
    if last is not None and list(used.items()) == list(last.used.items()):
        routes = last.routes
    else:
        routes = Routes([*own, *chain.from_iterable(used.values())], defaults.cors)
    return RouteTable(routes, read, used, endpoints, refused)


def combine(
    own: Sequence[Route],
    wanted: Mapping[str, tuple[Route, ...]],
    last: Mapping[str, tuple[Route, ...]],
) -> tuple[dict[str, tuple[Route, ...]], dict[str, Refusal]]:
    """The routes in use from now on by service, and who is refused, of those that are wanted, whoever came first first,
    and those that are in use until now."""
    paths = _Paths(own)
    refused: dict[str, Refusal] = {}
    ordered = [*wanted, *(name for name in last if name not in wanted)]
    for first in (True, False):
        group = [name for name in ordered if (name in _FIRST) is first]
        for name in group:
            paths.enter(name, last.get(name, ()))
        changed = [name for name in group if name in wanted]
        # A path that one service gives up is free for another, whichever was looked at first.
        while entered := [name for name in changed if paths.enter(name, wanted[name]) is None]:
            changed = [name for name in changed if name not in entered]
        for name in changed:
            if (refusal := paths.enter(name, wanted[name])) is not None:
                refused[name] = refusal
    return {name: paths.used[name] for name in ordered if paths.used.get(name)}, refused


class _Paths:
    """Which route has which method of which path."""

    def __init__(self, own: Sequence[Route]) -> None:
        self.used: dict[str, tuple[Route, ...]] = {}
        self._own = own
        self._holders = {key: route for route in own for key in _keys(route)}

    def enter(self, service: str, routes: tuple[Route, ...]) -> Refusal | None:
        """Takes these in place of what the service has, or nothing of them if one overlaps another service's."""
        for route in routes:
            for key in _keys(route):
                present = self._holders.get(key)
                if present is not None and present.service != service:
                    return Refusal(overlap_of(route, present, key[1]), present.service)
            if service not in _FIRST and (guarded := self._guarded(route)) is not None:
                return Refusal(overlap_of(route, guarded, min(route.methods)), guarded.service)
        for route in self.used.get(service, ()):
            for key in _keys(route):
                self._holders.pop(key, None)  # its GET and its HEAD may be two routes
        self._holders |= {key: route for route in routes for key in _keys(route)}
        self.used[service] = routes
        return None

    def _guarded(self, route: Route) -> Route | None:
        """The route of the gateway's pages, or of a service that people sign in by, of whose paths this one would take
        some: what is written out decides before a parameter, and the page's script, or a person's record, would be
        another's."""
        first = chain(self._own, *(self.used.get(name, ()) for name in _FIRST))
        return next((present for present in first if takes_some(route.path, present.path)), None)


def takes_some(path: str, present: str) -> bool:
    """Whether some request matches both and is decided for the first, which is the more exact one where they differ
    first (Routes: literal, parameter, rest)."""
    leads = 0
    for own, other in zip_longest(path.split("/"), present.split("/"), fillvalue=""):
        if own == other:
            continue
        if not own or not other:  # another length, or `/`, which is no value of a parameter
            return False
        exact, others_exact = map(_exactness, (own, other))
        if exact == others_exact == _LITERAL:
            return False
        leads = leads or exact - others_exact
        if _REST in (exact, others_exact):
            break
    return leads > 0


def _exactness(segment: str) -> int:
    if segment == "*":
        return _REST
    return _PARAMETER_SEGMENT if segment.startswith("{") else _LITERAL


def _keys(route: Route) -> Iterator[tuple[str, str]]:
    """GET holds HEAD: who has the one of a path is asked for the other."""
    shape = _PARAMETER.sub("{}", route.path)
    yield from ((shape, method) for method in route.methods)
    if "GET" in route.methods:
        yield shape, "HEAD"


def _rank(publication: Publication) -> tuple[int, datetime, str]:
    name = publication.service
    first = _FIRST.index(name) if name in _FIRST else len(_FIRST)
    return first, publication.since or _NO_STAMP, name
