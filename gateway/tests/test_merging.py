"""Whatever points at a part of a service's document points at the same part of the merged one."""

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.portal.checks import refusal
from gateway.portal.document import MergedDocument
from gateway.portal.merge import Part, merge
from gateway.portal.refusals import OWN_COMPONENTS
from gateway.routing.routes import Route, Routes
from service_kit.document import PROBLEM_SCHEMA, refusals, share_examples
from service_kit.problems import Problem

Document = dict[str, Any]
SCHEMAS = "#/components/schemas/"


class TooManyChanges(Problem):
    status, code, title, detail = 429, "too_many_changes", "Changed too often", "Wait."


def route(service: str, path: str, **more: Any) -> Route:
    return Route(service, path, path, more.pop("methods", frozenset(("GET", "POST"))), "x.toml:1", **more)


def merged(routes: list[Route], **documents: Document) -> Document:
    document = merge([Part(name, one) for name, one in documents.items()], Routes(routes), "0.1.0")
    assert [*_dangling(document, document)] == []
    return document


def _dangling(document: Document, value: Any) -> Any:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and _pointed_at(document, reference) is None:
            yield reference
        for key, inner in value.items():
            if key not in ("example", "default", "enum"):
                yield from _dangling(document, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _dangling(document, inner)


def _pointed_at(document: Document, reference: str) -> Any:
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def described(
    service: str, schemas: Document, operation: Document | None = None, **components: Any
) -> Document:
    """`/service/a` answers with the schema A; `operation` is what else it says."""
    content = {"application/json": {"schema": {"$ref": f"{SCHEMAS}A"}}}
    response = {"description": "ok", "content": content}
    one = {"operationId": "read", "summary": service, "responses": {"200": response}}
    other = {"operationId": "list", "summary": f"list of {service}", "responses": {}}
    return {
        "openapi": "3.1.0",
        "info": {"title": service, "version": "1"},
        "paths": {f"/{service}/a": {"get": one | (operation or {})}, f"/{service}/b": {"get": other}},
        "components": {"schemas": {"A": {"type": "string"}} | schemas, **components},
    }


def both(one: Document, two: Document) -> Document:
    return merged([route("one", "/one/*"), route("two", "/two/*")], one=one, two=two)


def shown(document: Document, service: str) -> Document:
    operation: Document = document["paths"][f"/{service}/a"]["get"]
    return operation


# What a schema means, as OpenAPI 3.1 says, whatever the schemas are called.


def meaning(document: Document, schema: Any, depth: int, name: str = "") -> Any:
    """The schema with what it points at in its place, up to a depth; `name` is its own among the components."""
    if isinstance(schema, list):
        return [meaning(document, one, depth) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if depth == 0:
        return "…"
    if isinstance(reference := schema.get("$ref"), str):
        called = reference.removeprefix(SCHEMAS)
        return meaning(document, document["components"]["schemas"][called], depth - 1, called)
    said: Document = {}
    for key, value in schema.items():
        if key == "discriminator":
            targets = _discriminated(document, schema, name)
            said[key] = {
                tag: meaning(document, {"$ref": f"{SCHEMAS}{target}"}, depth - 1)
                for tag, target in targets.items()
            }
        elif key in ("properties", "$defs"):
            said[key] = {inner: meaning(document, one, depth) for inner, one in value.items()}
        else:
            said[key] = value if key in ("default", "example", "enum") else meaning(document, value, depth)
    return said


def _discriminated(document: Document, schema: Document, name: str) -> dict[str, str]:
    """The schema that each value of the discriminator stands for."""
    schemas = document["components"]["schemas"]
    mapping = schema["discriminator"].get("mapping", {})
    found = {tag: target.removeprefix(SCHEMAS) for tag, target in mapping.items()}
    choices = [
        one["$ref"].removeprefix(SCHEMAS) for one in (*schema.get("oneOf", ()), *schema.get("anyOf", ()))
    ]
    heirs = [name] if name else []
    for heir in heirs:
        heirs += [
            child
            for child, one in schemas.items()
            if {"$ref": f"{SCHEMAS}{heir}"} in one.get("allOf", ()) and child not in heirs
        ]
    # A value of the merged document that no service has said is nobody's.
    implied = {one: one for one in (*choices, *heirs[1:]) if one not in found.values() and "." not in one}
    return implied | found


_NAMES = ("A", "B", "C", "D")
_reference = st.sampled_from(_NAMES).map(lambda name: {"$ref": f"{SCHEMAS}{name}"})
_trap = st.sampled_from(
    [
        {"type": "string", "default": f"{SCHEMAS}B", "example": {"$ref": f"{SCHEMAS}B"}},
        {"enum": [f"{SCHEMAS}B", {"$ref": f"{SCHEMAS}C"}]},
        {"type": "string", "description": f"{SCHEMAS}B is meant"},
    ]
)
_plain = st.sampled_from([{"type": "string"}, {"type": "integer"}]) | _trap
_choices = st.lists(_reference, min_size=1, max_size=3, unique_by=str)


@st.composite
def _discriminating(draw: st.DrawFn) -> Document:
    schema: Document = draw(
        st.one_of(
            _choices.map(lambda choices: {"oneOf": choices}),
            _choices.map(lambda choices: {"anyOf": choices}),
            st.just({"type": "object"}),
        )
    )
    discriminator: Document = {"propertyName": "kind"}
    if draw(st.booleans()):
        targets = st.sampled_from([*_NAMES, *(f"{SCHEMAS}{name}" for name in _NAMES)])
        discriminator["mapping"] = draw(
            st.dictionaries(st.sampled_from(["a", "b", "A"]), targets, max_size=2)
        )
    return schema | {"discriminator": discriminator}


_schema = st.one_of(
    _plain,
    _reference.map(lambda one: {"type": "array", "items": one}),
    st.dictionaries(
        st.sampled_from(["x", "default", "discriminator", "links", "example", "$ref", "mapping", "security"]),
        _reference | _plain,
        max_size=3,
    ).map(lambda properties: {"type": "object", "properties": properties}),
    st.builds(lambda parent, own: {"allOf": [parent, own]}, _reference, _plain),
    _discriminating(),
    _discriminating(),
)
_schemas = st.fixed_dictionaries(dict.fromkeys(_NAMES, _schema))


@settings(max_examples=300, deadline=None)
@given(_schemas, _schemas, st.sets(st.sampled_from(_NAMES)))
def test_every_schema_means_what_it_meant_to_its_service(
    ours: Document, theirs: Document, alike: set[str]
) -> None:
    theirs = theirs | {name: ours[name] for name in alike}
    one, two = described("one", ours), described("two", theirs)
    before = json.dumps([one, two])
    document = both(one, two)
    assert json.dumps([one, two]) == before, "what services said is left as it is"
    for service, own in (("one", one), ("two", two)):
        schema = shown(document, service)["responses"]["200"]["content"]["application/json"]["schema"]
        assert meaning(document, schema, 5) == meaning(own, {"$ref": f"{SCHEMAS}A"}, 5)
    for name, entry in document["components"]["schemas"].items():
        assert name.rpartition(".")[2] in (*_NAMES, "Problem")
        assert not isinstance(entry.get("discriminator"), dict) or "mapping" in entry["discriminator"]


def test_a_value_of_a_discriminator_without_a_mapping_still_finds_its_schema() -> None:
    pets = {
        "A": {"oneOf": [{"$ref": f"{SCHEMAS}Dog"}, {"$ref": f"{SCHEMAS}Cat"}], "discriminator": {"propertyName": "kind"}},
        "Dog": {"type": "object", "title": "ours"},
        "Cat": {"type": "object"},
    }  # fmt: skip
    document = both(described("one", pets), described("two", pets | {"Dog": {"type": "string"}}))
    for service in ("one", "two"):
        mapping = document["components"]["schemas"][f"{service}.A"]["discriminator"]["mapping"]
        assert mapping == {"Dog": f"{SCHEMAS}{service}.Dog", "Cat": f"{SCHEMAS}Cat"}


def test_the_heirs_of_a_schema_are_found_by_its_discriminator_alone() -> None:
    pets = {
        "A": {"type": "object", "discriminator": {"propertyName": "kind"}},
        "Dog": {"allOf": [{"$ref": f"{SCHEMAS}A"}]},
        "Puppy": {"allOf": [{"$ref": f"{SCHEMAS}Dog"}]},
    }
    document = merged([route("one", "/one/a")], one=described("one", pets))
    assert document["components"]["schemas"]["A"]["discriminator"]["mapping"] == {
        "Dog": f"{SCHEMAS}Dog",
        "Puppy": f"{SCHEMAS}Puppy",
    }
    assert {"Dog", "Puppy"} <= document["components"]["schemas"].keys()


def _linking(target: Document) -> Document:
    response = {"description": "ok", "links": {"next": target, "shared": {"$ref": "#/components/links/Next"}}}
    return {"responses": {"200": response}}


@pytest.mark.parametrize("how", ["operationId", "operationRef"])
def test_a_link_leads_to_the_operation_that_it_led_to(how: str) -> None:
    def one_of(service: str) -> Document:
        leads = {"operationId": "list", "operationRef": f"#/paths/~1{service}~1b/get"}[how]
        link = {how: leads, "parameters": {"id": "list"}}
        return described(service, {}, _linking(link), links={"Next": {how: leads}})

    document = both(one_of("one"), one_of("two"))
    for service in ("one", "two"):
        links = shown(document, service)["responses"]["200"]["links"]
        shared = _pointed_at(document, links["shared"]["$ref"])
        for link in (links["next"], shared):
            led = (
                _pointed_at(document, link[how])
                if how == "operationRef"
                else next(
                    o["get"] for o in document["paths"].values() if o["get"]["operationId"] == link[how]
                )
            )
            assert led["summary"] == f"list of {service}"
        assert links["next"]["parameters"] == {"id": "list"}


@pytest.mark.parametrize(
    "link", [{"operationId": "list"}, {"operationId": "none"}, {"operationRef": "#/paths/~1one~1b/get"}]
)
def test_a_link_to_what_is_not_forwarded_is_left_out(link: Document) -> None:
    one = described("one", {}, _linking(link), links={"Next": link})
    document = merged([route("one", "/one/a")], one=one)
    assert shown(document, "one")["responses"]["200"]["links"] == {}
    assert "links" not in document["components"]


def test_a_reference_to_a_path_follows_it_to_where_it_is_moved() -> None:
    link = {"operationRef": "#/paths/~1one~1b/get"}
    one = described("one", {"A": {"type": "string"}}, _linking(link), links={"Next": link})
    one["paths"]["/one/b"]["get"]["responses"] = {"200": {"$ref": "#/paths/~1one~1a/get/responses/200"}}
    document = merged([route("one", "/shop/*", rewrite="/one/{rest}")], one=one)
    assert document["paths"].keys() == {"/shop/a", "/shop/b"}
    response = document["paths"]["/shop/b"]["get"]["responses"]["200"]
    assert response == {"$ref": "#/paths/~1shop~1a/get/responses/200"}
    links = document["paths"]["/shop/a"]["get"]["responses"]["200"]["links"]
    assert links["next"] == {"operationRef": "#/paths/~1shop~1b/get"}


def test_an_operation_at_several_paths_has_a_name_at_each() -> None:
    one = described("one", {"A": {"type": "string"}})
    routes = [
        route("one", "/one/a"),
        *(route("one", f"/{n}", rewrite="/one/a") for n in ("x", "y", "z")),
    ]
    document = merged(routes, one=one)
    names = [item["get"]["operationId"] for item in document["paths"].values()]
    assert len(set(names)) == len(names) == 4


def test_a_callback_keeps_its_schemas_its_name_and_the_scheme_by_which_it_comes() -> None:
    def one_of(service: str) -> Document:
        body = {"content": {"application/json": {"schema": {"$ref": f"{SCHEMAS}Told"}}}}
        called = {"operationId": "told", "requestBody": body, "security": [{"hook": []}], "responses": {}}
        told = {"callbacks": {"told": {"{$request.body#/url}": {"post": called}}}}
        return described(
            service,
            {"Told": {"const": service}},
            told,
            securitySchemes={"hook": {"type": "http", "scheme": "basic", "description": service}},
        )

    document = both(one_of("one"), one_of("two"))
    names = set()
    for service in ("one", "two"):
        called = shown(document, service)["callbacks"]["told"]["{$request.body#/url}"]["post"]
        names.add(called["operationId"])
        schema = called["requestBody"]["content"]["application/json"]["schema"]
        assert _pointed_at(document, schema["$ref"]) == {"const": service}
        ((scheme, _),) = called["security"][0].items()
        assert document["components"]["securitySchemes"][scheme]["description"] == service
        assert shown(document, service)["security"] == [{"oauth2": []}, {"bearer": []}]
    assert len(names) == 2


def test_a_component_called_like_one_of_the_gateways_is_not_taken_for_it() -> None:
    theirs = {"Unauthorized": {"description": "theirs"}}
    said = {"responses": {"401": {"$ref": "#/components/responses/Unauthorized"}}}
    document = merged([route("one", "/one/a")], one=described("one", {}, said, responses=theirs))
    refused = shown(document, "one")["responses"]["401"]["$ref"]
    assert _pointed_at(document, refused) == theirs["Unauthorized"]
    assert document["components"]["responses"]["TooManyRequests"]


def test_a_status_that_both_answer_lists_the_codes_of_both() -> None:
    responses = {"Busy": refusals(TooManyChanges)[429]}
    components: Document = {"responses": responses}
    share_examples({"components": components})
    said = {"responses": {"429": components.pop("responses")["Busy"]}}
    one = described("one", {"Problem": PROBLEM_SCHEMA}, said, **components)
    document = merged([route("one", "/one/a")], one=one)
    content = shown(document, "one")["responses"]["429"]["content"]["application/problem+json"]
    codes = ["address_limited", "rate_limited", "too_many_changes"]
    assert content["schema"]["allOf"][1]["properties"]["code"]["enum"] == codes
    for code in codes:
        example = _pointed_at(document, content["examples"][code]["$ref"])["value"]
        assert (example["code"], example["status"]) == (code, 429)
    assert [name for name in document["components"]["schemas"] if "Problem" in name] == ["Problem"]


def test_every_refusal_of_the_gateway_stands_in_the_document() -> None:
    document = merged([route("one", "/one/a")], one=described("one", {}))
    assert document["components"]["responses"].items() >= OWN_COMPONENTS["responses"].items()


def test_what_a_newcomer_needs_first_comes_first() -> None:
    def tagged(service: str, *tags: str, **more: Any) -> Document:
        document = described(service, {}, {"tags": list(tags)}, **more)
        return document | {"tags": [{"name": tag} for tag in (*tags, "unused")]}

    flow = {"oauth2": {"type": "oauth2", "flows": {"password": {}}}}
    issuer = tagged("two", "oauth", "keys", securitySchemes=flow)
    issuer["paths"]["/auth/token"] = {}
    document = merged(
        [route("one", "/one/a"), route("two", "/two/a")], one=tagged("one", "things"), two=issuer
    )
    assert [tag["name"] for tag in document["tags"]] == ["oauth", "keys", "things"]


def test_a_new_name_is_never_one_that_somebody_has() -> None:
    one = described("one", {"A": {"$ref": f"{SCHEMAS}two.B"}, "two.B": {"const": 1}, "B": {"const": 2}})
    two = described("two", {"A": {"$ref": f"{SCHEMAS}B"}, "B": {"const": 3}})
    document = both(one, two)
    for service, own in (("one", one), ("two", two)):
        schema = shown(document, service)["responses"]["200"]["content"]["application/json"]["schema"]
        assert meaning(document, schema, 5) == meaning(own, {"$ref": f"{SCHEMAS}A"}, 5)


def test_a_path_that_is_a_component_is_forwarded_too() -> None:
    one = described("one", {"A": {"type": "string"}})
    one["components"]["pathItems"] = {"Thing": one["paths"]["/one/a"]}
    one["paths"]["/one/a"] = {"$ref": "#/components/pathItems/Thing"}
    assert shown(merged([route("one", "/one/a")], one=one), "one")["summary"] == "one"


def test_a_document_nested_without_end_is_refused() -> None:
    deep: Any = {"type": "string"}
    for _ in range(500):
        deep = {"items": deep}
    assert "deep" in refusal(described("one", {"A": deep}))
    assert not refusal(described("one", {"A": {"type": "string"}}))


class Known:
    """The documents that services gave."""

    def __init__(self, *parts: Part) -> None:
        self._parts = list(parts)

    async def parts(self) -> list[Part]:
        return self._parts


@pytest.mark.parametrize(
    "broken",
    [
        {"responses": True},
        {"responses": {"401": 1}},
        {"responses": {"401": {"description": "", "content": {"application/problem+json": 5}}}},
        {"parameters": 5},
        {"summary": "\ud800"},
    ],
)
async def test_a_document_that_breaks_the_rules_costs_no_other_service_its_own(broken: Document) -> None:
    routes = Routes([route("good", "/good/*"), route("bad", "/bad/*", scopes=frozenset(("a",)))])
    good, bad = described("good", {"A": {}}), described("bad", {"A": {}}, broken)
    bad["paths"]["/bad/a"]["parameters"] = []
    documents: Any = Known(Part("bad", bad), Part("good", good))
    encoded = await MergedDocument(lambda: routes, documents, "0.1.0").current()
    document = json.loads(encoded.body)
    assert "/good/a" in document["paths"]
    [told] = [one for one in document["x-services"] if one["name"] == "bad"]
    assert (told["state"], told["trouble"]) == ("missing", "its document is not OpenAPI that can be read")


def of_parts(schemas: Document | None = None, paths: Document | None = None) -> Document:
    return {"openapi": "3.1.0", "paths": paths or {}, "components": {"schemas": schemas or {}}}


def made_of(number: int) -> Document:
    return {"allOf": [{"$ref": f"{SCHEMAS}S{number}"}]}


_MOVED = [route("bad", f"/bad/{number}/*", rewrite=f"/{{rest}}/x{number}/y") for number in range(500)]
_ALL_LEAD_THERE = [route("bad", f"/bad/{number}/*", rewrite="/{rest}") for number in range(500)]


@pytest.mark.parametrize(
    ("routes", "document"),
    [
        ([], of_parts({f"S{number}": made_of(number - 1) for number in range(5_000)})),
        ([], of_parts({f"S{number}": {"x": [[], [], []]} for number in range(30_000)})),
        ([route("bad", "/bad/*", rewrite="/{rest}x/{rest}")], of_parts(paths={"/" + "x/" * 100_000 + "y": {}})),
        (_MOVED, of_parts(paths={f"/{number}": {"get": {}} for number in range(50_000)})),
        (_ALL_LEAD_THERE, of_parts(paths={"/a": {"get": {"description": "x" * 100_000}}})),
        (_ALL_LEAD_THERE, of_parts(paths={f"/{number}": {"get": {}} for number in range(500)})),
    ],
    ids=["heirs", "values", "long path", "paths", "large operation", "operations"],
)  # fmt: skip
async def test_no_document_takes_long_to_merge_or_much_memory(
    routes: list[Route], document: Document
) -> None:
    """It is one team's, and the process everybody's: 4 MiB of schemas made of each other were 20 GB."""
    table = Routes([route("good", "/good/*"), route("bad", "/bad"), *routes])
    good = described("good", {"A": {}})
    trouble = refusal(document)
    bad = Part("bad", None, trouble) if trouble else Part("bad", document)
    documents: Any = Known(bad, Part("good", good))
    began = thread_time()
    body = (await MergedDocument(lambda: table, documents, "0.1.0").current()).body
    assert thread_time() - began < 10
    assert len(body) < 3_000_000
    assert "/good/a" in json.loads(body)["paths"]
    assert '"state": "missing"' in body.decode()


def test_operations_that_are_all_called_alike_get_names_in_one_pass() -> None:
    paths = {f"/one/{number}": {"get": {"operationId": "read"}} for number in range(1_500)}
    document = merged([route("one", "/one/*")], one=of_parts(paths=paths))
    names = [item["get"]["operationId"] for item in document["paths"].values()]
    assert len(set(names)) == 1_500
    assert max(map(len, names)) < 20
