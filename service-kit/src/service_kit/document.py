"""Refusals in OpenAPI documents: for each status of an operation an enum of its codes, and one example each."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service_kit.problems import MEDIA_TYPE, SCHEMA, ApiError

_COMPONENTS: Final = "#/components"
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457). `code` is stable, and `request_id` finds the request in the logs. A 422"
    " may have `errors`, and `invalid_json` a `position`.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "What happened."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do next."},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "instance": {"type": "string"},
        "position": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def refusals(*kinds: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """What a route declares as `responses=refusals(EmailTaken, PasswordRefused)`."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        examples = dict(kind.examples())
        code = {"properties": {"code": {"enum": sorted(examples)}}}
        content = {
            "schema": {"allOf": [{"$ref": f"{_COMPONENTS}/schemas/{kind.schema}"}, code]},
            "examples": {name: {"value": value} for name, value in examples.items()},
        }
        response = {"description": HTTPStatus(kind.status).phrase, "content": {kind.media_type: content}}
        join(found.setdefault(int(kind.status), {"description": response["description"]}), response)
    return found


def join(response: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Adds to a response what another one says of the same status."""
    contents = response.setdefault("content", {})
    for media_type, more in deepcopy(dict(other.get("content", {}))).items():
        content = contents.setdefault(media_type, more)
        if content is more:
            continue
        codes, others = _codes(content), _codes(more)
        if (
            codes is not None
            and others is not None
            and content["schema"]["allOf"][0] == more["schema"]["allOf"][0]
        ):
            codes[:] = sorted({*codes, *others})
        elif "schema" in content and "schema" in more and content["schema"] != more["schema"]:
            content["schema"] = {"anyOf": [content["schema"], more["schema"]]}
        if "examples" in more:
            content["examples"] = dict(sorted((more["examples"] | content.get("examples", {})).items()))


def _codes(content: Mapping[str, Any]) -> list[str] | None:
    """The enum that `refusals` wrote."""
    try:
        codes: list[str] = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
    except (LookupError, TypeError):
        return None
    return codes


def contract(app: FastAPI) -> str:
    """The text of contract/openapi.json: the app's document, with what it does not list (pages for people) by path and
    method under `x-unlisted`, so that routes to it are known to lead somewhere."""
    unlisted: dict[str, dict[str, Any]] = {}
    for context in iter_route_contexts(app.routes):
        if context.path and context.path != app.openapi_url and not context.include_in_schema:
            unlisted.setdefault(context.path, {}).update(
                (method.lower(), {}) for method in context.methods or ()
            )
    document = app.openapi() | ({"x-unlisted": unlisted} if unlisted else {})
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def describe(
    app: FastAPI,
    everywhere: Iterable[type[ApiError]],
    refusals_of: Callable[[Mapping[str, Any]], Iterable[type[ApiError]]],
    elsewhere: Iterable[type[ApiError]],
    schemas: Mapping[str, Any],
) -> None:
    """Extends the document: what every operation may answer, what one of its kind may, and what no operation does."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {})
            known = components.setdefault("schemas", {})
            for replaced in ("HTTPValidationError", "ValidationError"):
                known.pop(replaced, None)
            known |= {SCHEMA: PROBLEM_SCHEMA, **schemas}
            problem = {MEDIA_TYPE: {"schema": {"$ref": f"{_COMPONENTS}/schemas/{SCHEMA}"}}}
            for operation in _operations(document):
                _say_what_happens(operation)
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _that_is_sent(parameter["schema"])
                responses = operation.setdefault("responses", {})
                also = refusals(*everywhere, *refusals_of(operation))
                if "422" in responses and "HTTPValidationError" in str(responses["422"]):
                    del responses["422"]["content"]["application/json"]
                    responses["422"]["description"] = HTTPStatus.UNPROCESSABLE_ENTITY.phrase
                for status, response in also.items():
                    join(
                        responses.setdefault(str(status), {"description": response["description"]}), response
                    )
                responses.setdefault("default", {"description": "Problem", "content": problem})
                operation["responses"] = dict(sorted(responses.items()))
            components["responses"] = {
                HTTPStatus(int(status)).name.title().replace("_", ""): response
                for status, response in refusals(*elsewhere).items()
            }
            share_examples(document)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document


def _say_what_happens(operation: dict[str, Any]) -> None:
    """The docstring's first sentence instead of the function's name, which FastAPI takes for a summary."""
    summary, description = operation.get("summary", ""), operation.get("description", "")
    if not description or not operation["operationId"].startswith(summary.lower().replace(" ", "_")):
        return
    first, _, rest = " ".join(description.split()).partition(". ")
    operation["summary"] = first.removesuffix(".")
    if rest:
        operation["description"] = rest
    else:
        del operation["description"]


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document.get("paths", {}).values():
        yield from item.values()


def share_examples(document: dict[str, Any]) -> None:
    """Moves what `refusals` wrote to where each example stands once: among the components, by status and code."""
    components = document["components"]
    shared: dict[str, Any] = {}
    for operation in (*_operations(document), components):
        for response in operation.get("responses", {}).values():
            for content in response.get("content", {}).values():
                for code, example in content.get("examples", {}).items() if _codes(content) else ():
                    name = f"{example['value'].get('status', 'oauth')}.{code}"
                    shared[name] = example
                    content["examples"][code] = {"$ref": f"{_COMPONENTS}/examples/{name}"}
    if shared:
        components["examples"] = dict(sorted(shared.items()))


def _that_is_sent(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's `T | None` of a parameter without its null: one is sent or left out, and no URL or header says null."""
    if {"type": "null"} not in schema.get("anyOf", ()):
        return schema
    sent = [one for one in schema["anyOf"] if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | (sent[0] if len(sent) == 1 else {"anyOf": sent})
