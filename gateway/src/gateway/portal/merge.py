"""One OpenAPI document out of those of all services: what the gateway forwards, as its consumers see it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import thread_time
from typing import Any, Final

from gateway.portal.references import (
    COMPONENTS,
    Document,
    Name,
    Renaming,
    means_its_own,
    references,
    schemes,
    with_mappings,
)
from gateway.portal.refusals import OWN_COMPONENTS, OWN_REFERENCES, responses_of
from gateway.routing.routes import Route, Routes

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
# One team's document is merged in the process that serves everybody.
_OPERATIONS_MAX: Final = 4000  # of one service, a path that several routes lead to counted for each,
_SHOWN_MAX: Final = 2 * 1024 * 1024  # and characters that these come to
_REWRITES_SECONDS: Final = 2.0  # of a core, to find where a service's paths are served
_PARAMETER: Final = re.compile(r"\{[^{}/]+\}")
_SECURITY: Final[Document] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "For an access token that you have already.",
    }
}


@dataclass(frozen=True, slots=True)
class Part:
    """What a service said of itself, and how that came."""

    service: str
    document: Document | None
    trouble: str = ""  # why there is no document, or only an old one

    @property
    def state(self) -> str:
        if self.document is None:
            return "missing"
        return "stale" if self.trouble else "current"


def merge(parts: Sequence[Part], routes: Routes, version: str) -> Document:
    """The document of everything that a route of the table forwards."""
    # The service that issues tokens comes first; each one lists its operations in the order in which they are read.
    known = {part.service: part.document for part in parts if part.document is not None}
    first = sorted(known, key=lambda service: not _takes_passwords(known[service]))
    documents = {service: with_mappings(known[service]) for service in first}
    renamed = _choose_names(documents)
    components: Document = {section: dict(entries) for section, entries in OWN_COMPONENTS.items()}
    paths: Document = {}
    identities = _Identities()
    for service, document in documents.items():
        forwarded = list(islice(_forwarded(service, document, routes), _OPERATIONS_MAX + 1))
        if len(forwarded) > _OPERATIONS_MAX:
            raise ValueError(f"routes lead to more than {_OPERATIONS_MAX} of its operations")
        size = 0
        claimed = [identities.give(service, one.operation) for one in forwarded]
        names = Renaming(
            renamed[service],
            # Of an operation at several paths the first is meant.
            {old: new for old, new in reversed(claimed) if old},
            {one.path: one.public for one in reversed(forwarded)},
            partial("{}.{}".format, service),
            partial(identities.claim, service),
        ).without_dead_links(document)
        for (section, name), entry in _components(document).items():
            called = renamed[service].get((section, name), name)
            if (copy := names.component(section, name, entry)) is not None:
                components.setdefault(section, {})[called] = copy
        for one, (_, operation_id) in zip(forwarded, claimed, strict=True):
            operation = names.follow(one.operation)
            if operation_id:
                operation["operationId"] = operation_id
            shown = _as_consumers_see(operation, one.route, document)
            size += len(json.dumps(shown))
            if size > _SHOWN_MAX:
                raise ValueError(f"its operations come to more than {_SHOWN_MAX} characters")
            paths.setdefault(one.public, {})[one.method] = shown
    _prune(paths, components)
    components["securitySchemes"] = {
        **_SECURITY,
        "oauth2": _sign_in(paths, documents.values()),
        **_schemes_of_callbacks(documents, [paths, components]),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gatehouse", "version": version, "description": _description(parts)},
        "servers": [{"url": "./"}],
        "tags": _tags(documents.values(), paths),
        "paths": paths,
        "components": components,
        "x-services": [
            {
                "name": part.service,
                "version": str((part.document or {}).get("info", {}).get("version", "")),
                "state": part.state,
            }
            | ({"trouble": part.trouble} if part.trouble else {})
            for part in parts
        ],
    }


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """An operation that a route leads to; `public` is the path at which consumers find it."""

    path: str
    public: str
    method: str
    route: Route
    operation: Document


class _Identities:
    """Every operationId once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._again: dict[str, int] = {}

    def give(self, service: str, operation: Document) -> tuple[str, str]:
        """What the operation is called in the service's document and in ours; empty if it has no name."""
        operation_id = operation.get("operationId")
        return (
            (operation_id, self.claim(service, operation_id)) if isinstance(operation_id, str) else ("", "")
        )

    def claim(self, service: str, operation_id: str) -> str:
        if operation_id in self._taken:
            operation_id = f"{service}.{operation_id}"
        first = operation_id
        while operation_id in self._taken:
            # Counted on from the last time: a document may call all of its operations alike.
            number = self._again[first] = self._again.get(first, 1) + 1
            operation_id = f"{first}_{number}"
        self._taken.add(operation_id)
        return operation_id


def _schemes_of_callbacks(documents: Mapping[str, Document], asking: object) -> Document:
    """The schemes by which services call their consumers back, under the names that NewNames gave them."""
    required = set(schemes(asking))
    return {
        called: scheme
        for service, document in documents.items()
        for name, scheme in document.get("components", {}).get("securitySchemes", {}).items()
        if (called := f"{service}.{name}") in required
    }


def _description(parts: Sequence[Part]) -> str:
    said = ["Everything that this gateway forwards, one service beside the other."]
    said += [
        f"**{part.service} is {part.state} here**: {part.trouble}."
        for part in parts
        if part.state != "current"
    ]
    return "\n\n".join(said)


def _sign_in(paths: Document, documents: Iterable[Document]) -> Document:
    """The password grant if it is offered, with every scope that an operation asks for."""
    if not any(map(_takes_passwords, documents)):
        return {
            "type": "oauth2",
            "description": "No service behind this gateway says that it takes passwords.",
            "flows": {},
        }
    required = {
        scope
        for item in paths.values()
        for operation in item.values()
        for requirement in operation["security"]
        for scope in requirement.get("oauth2", ())
    }
    flow = {
        "tokenUrl": "auth/token",
        "refreshUrl": "auth/token",
        "scopes": dict.fromkeys(sorted(required), ""),
    }
    return {
        "type": "oauth2",
        "description": "Sign in with e-mail address and password; the client's fields stay empty.",
        "flows": {"password": flow},
    }


def _tags(documents: Iterable[Document], paths: Document) -> list[Document]:
    """As each service lists its own."""
    used = {tag for item in paths.values() for operation in item.values() for tag in operation["tags"]}
    listed = {
        tag["name"]: tag for document in documents for tag in document.get("tags", ()) if tag["name"] in used
    }
    return list(listed.values())


def _takes_passwords(document: Document) -> bool:
    """Whether it is of the service that issues tokens, which says so by the flow of a security scheme."""
    schemes = document.get("components", {}).get("securitySchemes", {}).values()
    offered = [scheme.get("flows") for scheme in schemes if isinstance(scheme, dict)]
    return "/auth/token" in document.get("paths", {}) and any(
        isinstance(flows, dict) and "password" in flows for flows in offered
    )


# Which operations there are, and under which path.


def _forwarded(service: str, document: Document, routes: Routes) -> Iterator[_Forwarded]:
    """Each operation of the service that a route leads to, under the path at which the gateway serves it."""
    moved = [
        (route, _undoing(route.rewrite))
        for route in routes
        if route.service == service and route.rewrite is not None
    ]
    began = thread_time()
    for path, item in document.get("paths", {}).items():
        public_paths = ((path, None), *_public_paths(path, moved))
        if thread_time() - began > _REWRITES_SECONDS:
            raise ValueError("its paths and the rewrites of its routes take too long to bring together")
        item = _whole_item(item, document)
        for method, operation in item.items():
            if method not in _METHODS or not isinstance(operation, dict):
                continue
            if "parameters" in item:
                operation = operation | {
                    "parameters": [*item["parameters"], *operation.get("parameters", ())]
                }
            for public, moving in public_paths:
                route = routes.find(method.upper().encode(), _PARAMETER.sub("{}", public).encode())
                if route is None or route.service != service:
                    continue
                if route is moving or (moving is None and route.rewrite is None):
                    yield _Forwarded(path, public, method, route, operation)


def _whole_item(item: Document, document: Document) -> Document:
    """With what it refers to, if it stands among the components."""
    name = str(item.get("$ref", "")).removeprefix(f"{COMPONENTS}pathItems/")
    shared = document.get("components", {}).get("pathItems", {}).get(name)
    return {**shared, **item} if isinstance(shared, dict) else item


def _undoing(rewrite: str) -> re.Pattern[str]:
    """Finds in what the service sees what the gateway made it of."""
    pattern, known = "", set[str]()
    for literal, name in re.findall(r"([^{}]*)(?:\{([a-z0-9_]+)\})?", rewrite):
        pattern += re.escape(literal)
        if name in known:
            pattern += f"(?P={name})"
        elif name:
            pattern += f"(?P<{name}>{'.+' if name == 'rest' else '[^/]+'})"
            known.add(name)
    return re.compile(pattern)


def _public_paths(path: str, moved: Iterable[tuple[Route, re.Pattern[str]]]) -> Iterator[tuple[str, Route]]:
    """Undoes the rewrites: where consumers find what the service calls `path`."""
    for route, undoing in moved:
        if found := undoing.fullmatch(path):
            public = route.path
            for name, value in found.groupdict().items():
                public = (
                    public.removesuffix("*") + value
                    if name == "rest"
                    else public.replace(f"{{{name}}}", value)
                )
            yield public, route


def _as_consumers_see(operation: Document, route: Route, document: Document) -> Document:
    operation = {key: value for key, value in operation.items() if key != "servers"}
    operation.setdefault("tags", [route.service])
    protected = not route.public or bool(operation.get("security", document.get("security")))
    operation["security"] = [{"oauth2": sorted(route.scopes)}, {"bearer": []}] if protected else []
    if route.scopes or route.roles:
        needed = [f"the scope `{scope}`" for scope in sorted(route.scopes)]
        if route.roles:
            needed.append("the role " + " or ".join(f"`{role}`" for role in sorted(route.roles)))
        said = operation.get("description", "")
        operation["description"] = f"{said}\n\nNeeds {' and '.join(needed)}.".strip()
    operation["responses"] = responses_of(operation, route, protected=protected)
    return operation


# Names that two services use.


def _components(document: Document) -> dict[Name, Any]:
    """Every component but the security schemes, which are the gateway's own in what consumers see."""
    return {
        (section, name): entry
        for section, entries in document.get("components", {}).items()
        if section != "securitySchemes"
        for name, entry in entries.items()
    }


def _choose_names(documents: Mapping[str, Document]) -> dict[str, dict[Name, str]]:
    """What the components of each service are called beside those of the others, where it is not what they were."""
    colliding = _colliding(documents)
    taken = {name for document in documents.values() for name in _components(document)}
    found: dict[str, dict[Name, str]] = {}
    for service, document in documents.items():
        found[service] = {}
        for section, name in _components(document).keys() & colliding:
            new = f"{service}.{name}"
            while (section, new) in taken:
                new += "_"
            taken.add((section, new))
            found[service][section, name] = new
    return found


def _colliding(documents: Mapping[str, Document]) -> set[Name]:
    """Names that mean two things: the entries differ, the gateway's own among them, or point at something that does or
    at what each service has for itself."""
    meanings: dict[Name, list[Any]] = {}
    for document in (*documents.values(), {"components": OWN_COMPONENTS}):
        for name, entry in _components(document).items():
            meanings.setdefault(name, []).append(entry)
    shared = {name: entries for name, entries in meanings.items() if len(entries) > 1}
    colliding = {
        name
        for name, entries in shared.items()
        if means_its_own(entries[0]) or any(entry != entries[0] for entry in entries)
    }
    pointed_at_by: dict[Name, list[Name]] = {}
    for name, entries in shared.items():
        for target in set(references(entries[0])):
            pointed_at_by.setdefault(target, []).append(name)
    waiting = list(colliding)
    while waiting:
        more = [name for name in pointed_at_by.get(waiting.pop(), ()) if name not in colliding]
        colliding.update(more)
        waiting += more
    return colliding


def _prune(paths: Document, components: Document) -> None:
    """Removes what nothing refers to: it belonged to operations that are not forwarded."""
    used: set[Name] = set()
    waiting: list[Any] = [paths, OWN_REFERENCES]
    while waiting:
        for name in references(waiting.pop()):
            section, called = name
            if name not in used and called in components.get(section, {}):
                used.add(name)
                waiting.append(components[section][called])
    for section, entries in list(components.items()):
        components[section] = {
            name: entry for name, entry in sorted(entries.items()) if (section, name) in used
        }
        if not components[section]:
            del components[section]
