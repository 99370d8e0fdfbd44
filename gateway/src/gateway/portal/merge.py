"""One OpenAPI document out of those of all services: what the gateway forwards, as its consumers see it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.routes import Route, Routes

Document = dict[str, Any]

OWN: Final = "gateway"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_COMPONENTS: Final = "#/components/"
_PARAMETER: Final = re.compile(r"\{[^{}/]+\}")
# A path is sorted by the part that a reader looks for; a parameter comes behind the literal names.
_BEHIND: Final = "~"
_PROBLEM_CONTENT: Final = {
    "application/problem+json": {"schema": {"$ref": f"{_COMPONENTS}schemas/{OWN}.Problem"}}
}
_OWN_COMPONENTS: Final[Document] = {
    "schemas": {
        f"{OWN}.Problem": {
            "title": "Problem",
            "description": "Problem details (RFC 9457). `code` is stable; `request_id` finds the request in the logs.",
            "type": "object",
            "required": ["type", "title", "status", "code", "request_id"],
            "properties": {
                "type": {"type": "string", "format": "uri-reference"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"type": "string"},
                "request_id": {"type": "string"},
            },
        }
    },
    "responses": {
        name: {"description": text, "content": _PROBLEM_CONTENT}
        for name, text in (
            ("Unauthorized", "No token, or one that is not accepted; `WWW-Authenticate` says which."),
            ("Forbidden", "The token lacks a scope, or the caller a role."),
            ("NotAcceptable", "No media type that the client accepts is given here."),
            ("UnsupportedMediaType", "The body is of a media type that is not taken here; `Accept` says which are."),
            ("TooManyRequests", "Slow down: `Retry-After` says for how long."),
            ("BadGateway", "The service's answer could not be read, or broke off."),
            ("Unavailable", "The service, or the check of tokens, is not available; see `Retry-After`."),
            ("GatewayTimeout", "The service did not answer in time."),
        )
    },
}  # fmt: skip
_SECURITY: Final[Document] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


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


def refusal(document: object) -> str:
    """Why this cannot be a part of the merged document; empty if it can."""
    if not isinstance(document, dict):
        return "it is not a JSON object"
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith("3.1."):
        return "it is not OpenAPI 3.1"
    if not _is_nested(document.get("paths", {}), 2) or not _is_nested(document.get("components", {}), 2):
        return "its paths or components are not objects"
    return ""


def _is_nested(value: object, levels: int) -> bool:
    if not isinstance(value, dict):
        return False
    return levels == 1 or all(_is_nested(inner, levels - 1) for inner in value.values())


def merge(parts: Sequence[Part], routes: Routes, version: str) -> Document:
    """The document of everything that a route of the table forwards."""
    documents = {part.service: part.document for part in parts if part.document is not None}
    renamed = _colliding(documents)
    components: Document = {section: dict(entries) for section, entries in _OWN_COMPONENTS.items()}
    paths: Document = {}
    seen_ids: set[str] = set()
    for service, document in documents.items():
        names = {name: f"{service}.{name[1]}" for name in _names(document) if name in renamed}
        document = _renamed(document, names)
        for (section, name), entry in _components(document).items():
            components.setdefault(section, {})[names.get((section, name), name)] = entry
        for path, method, route, operation in _forwarded(service, document, routes):
            item = paths.setdefault(path, {})
            item[method] = _as_consumers_see(operation, route, document, seen_ids)
    components["securitySchemes"] = _SECURITY | {"oauth2": _sign_in(paths, documents.values())}
    _prune(paths, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gatehouse", "version": version, "description": _description(parts)},
        "servers": [{"url": "./"}],
        "paths": dict(sorted(paths.items(), key=lambda item: item[0].replace("{", _BEHIND))),
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
    asked = {
        scope
        for item in paths.values()
        for operation in item.values()
        for requirement in operation["security"]
        for scope in requirement.get("oauth2", ())
    }
    flow = {"tokenUrl": "auth/token", "refreshUrl": "auth/token", "scopes": dict.fromkeys(sorted(asked), "")}
    return {
        "type": "oauth2",
        "description": "Sign in with e-mail address and password; the client's fields stay empty.",
        "flows": {"password": flow},
    }


def _takes_passwords(document: Document) -> bool:
    """Whether it is of the service that issues tokens, which says so by the flow of a security scheme."""
    schemes = document.get("components", {}).get("securitySchemes", {}).values()
    offered = [scheme.get("flows") for scheme in schemes if isinstance(scheme, dict)]
    return "/auth/token" in document.get("paths", {}) and any(
        isinstance(flows, dict) and "password" in flows for flows in offered
    )


# Which operations there are, and under which path.


def _forwarded(
    service: str, document: Document, routes: Routes
) -> Iterator[tuple[str, str, Route, Document]]:
    """Each operation of the service that a route leads to, under the path at which the gateway serves it."""
    moved = [route for route in routes if route.service == service and route.rewrite is not None]
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            operation = item.get(method)
            if not isinstance(operation, dict):
                continue
            if "parameters" in item:
                operation = operation | {
                    "parameters": [*item["parameters"], *operation.get("parameters", ())]
                }
            for public, moving in ((path, None), *_public_paths(path, moved)):
                route = routes.find(method.upper().encode(), _PARAMETER.sub("{}", public).encode())
                if route is None or route.service != service:
                    continue
                if route is moving or (moving is None and route.rewrite is None):
                    yield public, method, route, operation


def _public_paths(path: str, moved: Iterable[Route]) -> Iterator[tuple[str, Route]]:
    """Undoes the rewrites: where consumers find what the service calls `path`."""
    for route in moved:
        pattern, known = "", set[str]()
        for literal, name in re.findall(r"([^{}]*)(?:\{([a-z0-9_]+)\})?", route.rewrite or ""):
            pattern += re.escape(literal)
            if name in known:
                pattern += f"(?P={name})"
            elif name:
                pattern += f"(?P<{name}>{'.+' if name == 'rest' else '[^/]+'})"
                known.add(name)
        if found := re.fullmatch(pattern, path):
            public = route.path
            for name, value in found.groupdict().items():
                public = (
                    public.removesuffix("*") + value
                    if name == "rest"
                    else public.replace(f"{{{name}}}", value)
                )
            yield public, route


def _as_consumers_see(operation: Document, route: Route, document: Document, seen_ids: set[str]) -> Document:
    operation = {key: value for key, value in operation.items() if key != "servers"}
    operation.setdefault("tags", [route.service])
    identity = operation.get("operationId")
    if identity in seen_ids:
        operation["operationId"] = identity = f"{route.service}.{identity}"
    if isinstance(identity, str):
        seen_ids.add(identity)
    protected = not route.public or bool(operation.get("security", document.get("security")))
    operation["security"] = [{"oauth2": sorted(route.scopes)}, {"bearer": []}] if protected else []
    answers = {"429": "TooManyRequests", "502": "BadGateway", "503": "Unavailable", "504": "GatewayTimeout"}
    if protected:
        answers |= {"401": "Unauthorized"}
    if route.media is not None:
        answers |= {"406": "NotAcceptable"} if route.media.produces else {}
        answers |= {"415": "UnsupportedMediaType"} if route.media.consumes else {}
    if route.scopes or route.roles:
        answers |= {"403": "Forbidden"}
        needed = [f"the scope `{scope}`" for scope in sorted(route.scopes)]
        if route.roles:
            needed.append("the role " + " or ".join(f"`{role}`" for role in sorted(route.roles)))
        said = operation.get("description", "")
        operation["description"] = f"{said}\n\nNeeds {' and '.join(needed)}.".strip()
    own = {status: {"$ref": f"{_COMPONENTS}responses/{name}"} for status, name in answers.items()}
    operation["responses"] = dict(sorted((own | operation.get("responses", {})).items()))
    return operation


# Names that two services use.


def _components(document: Document) -> dict[tuple[str, str], Any]:
    """Every component but the security schemes, which are the gateway's own in what consumers see."""
    return {
        (section, name): entry
        for section, entries in document.get("components", {}).items()
        if section != "securitySchemes"
        for name, entry in entries.items()
    }


def _names(document: Document) -> Iterable[tuple[str, str]]:
    return _components(document).keys()


def _colliding(documents: Mapping[str, Document]) -> set[tuple[str, str]]:
    """Names that mean two things: the entries differ, or refer to something that does."""
    meanings: dict[tuple[str, str], list[str]] = {}
    for document in documents.values():
        for name, entry in _components(document).items():
            meanings.setdefault(name, []).append(json.dumps(entry, sort_keys=True))
    shared = {name: texts for name, texts in meanings.items() if len(texts) > 1}
    colliding = {name for name, texts in shared.items() if len(set(texts)) > 1}
    while True:
        references = [f'"{_COMPONENTS}{section}/{name}"' for section, name in colliding]
        more = {
            name
            for name, texts in shared.items()
            if name not in colliding and any(reference in texts[0] for reference in references)
        }
        if not more:
            return colliding
        colliding |= more


def _renamed(value: Any, names: Mapping[tuple[str, str], str]) -> Any:
    """The same with every reference to a renamed component following it."""
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    if not isinstance(value, dict):
        return _reference(value, names) if isinstance(value, str) else value
    followed = {key: _renamed(inner, names) for key, inner in value.items()}
    discriminator = followed.get("discriminator")
    if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
        mapping = discriminator["mapping"].items()
        discriminator["mapping"] = {k: names.get(("schemas", v), v) for k, v in mapping}
    return followed


def _reference(text: str, names: Mapping[tuple[str, str], str]) -> str:
    if not text.startswith(_COMPONENTS):
        return text
    section, _, name = text.removeprefix(_COMPONENTS).partition("/")
    name, slash, deeper = name.partition("/")
    return f"{_COMPONENTS}{section}/{names.get((section, name), name)}{slash}{deeper}"


def _prune(paths: Document, components: Document) -> None:
    """Removes what nothing refers to: it belonged to operations that are not forwarded."""
    used: set[tuple[str, str]] = {("securitySchemes", name) for name in components["securitySchemes"]}
    waiting = [paths]
    while waiting:
        for section, name in _references(waiting.pop()):
            if (section, name) not in used and name in components.get(section, {}):
                used.add((section, name))
                waiting.append(components[section][name])
    for section, entries in list(components.items()):
        components[section] = {
            name: entry for name, entry in sorted(entries.items()) if (section, name) in used
        }
        if not components[section]:
            del components[section]


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    elif isinstance(value, str) and value.startswith(_COMPONENTS):
        section, _, name = value.removeprefix(_COMPONENTS).partition("/")
        yield section, name.partition("/")[0]
