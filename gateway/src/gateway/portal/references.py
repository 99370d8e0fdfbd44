"""What points at what in an OpenAPI document, and copies of it in which all that follows new names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

Document = dict[str, Any]
Name = tuple[str, str]  # of a component: its section, and what it is called there

COMPONENTS: Final = "#/components/"
_HEIRS_MAX: Final = 20_000  # of all schemas of a document: a chain of them has half its square
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PATHS: Final = "#/paths/"
_SCHEMAS: Final = f"{COMPONENTS}schemas/"
# What stands below these is called as somebody liked: a property may be named `default`, or `discriminator`.
_MAPS: Final = frozenset((
    "schemas", "responses", "parameters", "examples", "requestBodies", "headers", "securitySchemes", "pathItems",
    "content", "encoding", "properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "paths",
    "webhooks", "variables",
))  # fmt: skip
# What stands below these is data, whatever it looks like.
_DATA: Final = frozenset(("example", "default", "const", "enum", "value"))


@dataclass(frozen=True, slots=True)
class Renaming:
    """What the parts of one service's document are called where it is merged."""

    components: Mapping[Name, str]
    operations: Mapping[str, str]  # by operationId; those that are not forwarded are not in it
    paths: Mapping[str, str]  # by the service's own path
    scheme: Callable[[str], str]  # of a security scheme
    claim: Callable[[str], str]  # makes an operationId that nobody has, for one of a callback
    dead_links: frozenset[str] = frozenset()  # components that lead to nothing that is forwarded

    def follow(self, value: Any) -> Any:
        """A copy in which everything that points at something renamed follows it; a link that leads to nothing that is
        forwarded is left out."""
        if isinstance(value, list):
            return [self.follow(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        return {key: self._member(key, inner) for key, inner in value.items()}

    def component(self, section: str, name: str, entry: Any) -> Any:
        """A component's copy; what it is depends on the section that it stands in. None for a link that is left out."""
        return self._member(section, {name: entry}).get(name)

    def without_dead_links(self, document: Document) -> "Renaming":
        """The same, which knows the links among the document's components that it leaves out."""
        links = document.get("components", {}).get("links", {})
        return replace(
            self, dead_links=frozenset(name for name, link in links.items() if self._link(link) is None)
        )

    def _member(self, key: str, value: Any) -> Any:
        if key in _DATA or (key == "examples" and isinstance(value, list)):
            return value
        if key in ("$ref", "$dynamicRef") and isinstance(value, str):
            return self._reference(value) or value
        if key == "security" and isinstance(value, list):
            return [
                {self.scheme(name): scopes for name, scopes in one.items()} if isinstance(one, dict) else one
                for one in value
            ]
        if not isinstance(value, dict):
            return self.follow(value)
        if key == "discriminator":
            return {**value, "mapping": self._mapping(value)} if "mapping" in value else value
        if key == "links":
            return {name: link for name, one in value.items() if (link := self._link(one)) is not None}
        if key == "callbacks":
            return {name: self._callback(one) for name, one in value.items()}
        if key in _MAPS:
            return {name: self.follow(inner) for name, inner in value.items()}
        return self.follow(value)

    def _mapping(self, discriminator: Document) -> Any:
        mapping = discriminator["mapping"]
        if not isinstance(mapping, dict):
            return mapping
        return {
            value: (self._reference(target) or target) if isinstance(target, str) else target
            for value, target in mapping.items()
        }

    def _link(self, link: Any) -> Any:
        """Its parameters and body are data: expressions, or values to send."""
        if not isinstance(link, dict):
            return link
        followed = dict(link)
        if isinstance(reference := link.get("$ref"), str):
            if reference.removeprefix(f"{COMPONENTS}links/") in self.dead_links:
                return None
            followed["$ref"] = self._reference(reference) or reference
        if isinstance(operation_id := link.get("operationId"), str):
            if operation_id not in self.operations:
                return None
            followed["operationId"] = self.operations[operation_id]
        if isinstance(reference := link.get("operationRef"), str):
            if (moved := self._reference(reference)) is None:
                return None
            followed["operationRef"] = moved
        return followed

    def _callback(self, callback: Any) -> Any:
        followed = self.follow(callback)
        for operation in _operations(followed):
            if isinstance(operation_id := operation.get("operationId"), str):
                operation["operationId"] = self.claim(operation_id)
        return followed

    def _reference(self, text: str) -> str | None:
        """None if it points at a path that is not forwarded."""
        if text.startswith(COMPONENTS):
            section, _, name = text.removeprefix(COMPONENTS).partition("/")
            name, slash, deeper = name.partition("/")
            return f"{COMPONENTS}{section}/{self.components.get((section, name), name)}{slash}{deeper}"
        if text.startswith(_PATHS):
            path, slash, deeper = text.removeprefix(_PATHS).partition("/")
            public = self.paths.get(path.replace("~1", "/").replace("~0", "~"))
            if public is None:
                return None
            return f"{_PATHS}{public.replace('~', '~0').replace('/', '~1')}{slash}{deeper}"
        return text


def _operations(callback: Any) -> Iterator[Document]:
    for item in callback.values() if isinstance(callback, dict) else ():
        for method in METHODS if isinstance(item, dict) else ():
            if isinstance(operation := item.get(method), dict):
                yield operation


def references(value: Any) -> Iterator[Name]:
    """The components that are pointed at below."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, str) and value.startswith(COMPONENTS):
        section, _, name = value.removeprefix(COMPONENTS).partition("/")
        yield section, name.partition("/")[0]


def schemes(value: Any) -> Iterator[str]:
    """The security schemes that are asked for below."""
    if isinstance(value, dict):
        required = value.get("security")
        for requirement in required if isinstance(required, list) else ():
            if isinstance(requirement, dict):
                yield from requirement
        for inner in value.values():
            yield from schemes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from schemes(inner)


def means_its_own(value: Any) -> bool:
    """Whether something below points at what every service has for itself: operations, paths, security schemes."""
    if isinstance(value, dict):
        if {"operationId", "operationRef", "security"} & value.keys():
            return True
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PATHS):
            return True
        return any(map(means_its_own, value.values()))
    return isinstance(value, list) and any(map(means_its_own, value))


def with_mappings(document: Document) -> Document:
    """The same with every discriminator's mapping written out in references: without one a value is the name of a schema
    (OpenAPI 3.1, 4.8.25.1), which may soon be called otherwise."""
    schemas = document.get("components", {}).get("schemas", {})
    heirs = _heirs(schemas)

    def written(value: Any, own: tuple[str, ...] = ()) -> Any:
        """`own` are the heirs of a schema that is a component."""
        if isinstance(value, list):
            return [written(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        copy = {key: below(key, inner) for key, inner in value.items()}
        discriminator = value.get("discriminator")
        if isinstance(discriminator, dict) and isinstance(discriminator.get("propertyName"), str):
            copy["discriminator"] = {**discriminator, "mapping": _mapping(value, schemas, own)}
        return copy

    def below(key: str, value: Any) -> Any:
        if key in _DATA or key == "discriminator" or (key == "examples" and isinstance(value, list)):
            return value
        if key in _MAPS and isinstance(value, dict):
            return {
                name: written(inner, heirs.get(name, ()) if value is schemas else ())
                for name, inner in value.items()
            }
        return written(value)

    return {key: below(key, value) for key, value in document.items()}


def _mapping(schema: Document, schemas: Document, own: tuple[str, ...]) -> Document:
    said = schema["discriminator"].get("mapping")
    mapping = {
        value: f"{_SCHEMAS}{target}" if target in schemas else target
        for value, target in (said.items() if isinstance(said, dict) else ())
        if isinstance(target, str)
    }
    implied = [*_pointed_at(schema.get("oneOf")), *_pointed_at(schema.get("anyOf")), *own]
    reached = set(mapping.values())
    return {name: f"{_SCHEMAS}{name}" for name in implied if f"{_SCHEMAS}{name}" not in reached} | mapping


def _heirs(schemas: Document) -> dict[str, tuple[str, ...]]:
    """Of each schema those that are made of it by allOf, directly or not."""
    children: dict[str, list[str]] = {}
    for name, schema in schemas.items():
        for parent in _pointed_at(schema.get("allOf")) if isinstance(schema, dict) else ():
            children.setdefault(parent, []).append(name)
    found: dict[str, tuple[str, ...]] = {}
    left = _HEIRS_MAX
    for name in children:
        heirs = dict.fromkeys(children[name])
        waiting = list(heirs)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in heirs:
                    heirs[child] = None
                    waiting.append(child)
                    if len(heirs) > left:
                        raise ValueError("too many schemas are made of each other")
        left -= len(heirs)
        found[name] = tuple(heirs)
    return found


def _pointed_at(schemas: Any) -> Iterator[str]:
    """The names of the schemas in such a list."""
    for schema in schemas if isinstance(schemas, list) else ():
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if isinstance(reference, str) and reference.startswith(_SCHEMAS):
            yield reference.removeprefix(_SCHEMAS)
