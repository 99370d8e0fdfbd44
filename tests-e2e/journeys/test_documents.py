"""What a consumer finds before writing a line: keys, metadata, the API document."""

from __future__ import annotations

from typing import Any

from gatehouse_e2e.api import Api


def test_the_keys_are_public_ones_with_ids(api: Api) -> None:
    answer = api.http.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    keys = answer.json()["keys"]
    assert keys
    assert len({key["kid"] for key in keys}) == len(keys)
    assert all(key["kty"] == "EC" and key["alg"] == "ES256" and "d" not in key for key in keys)
    assert "max-age" in answer.headers["cache-control"]


def test_the_metadata_names_this_issuer_and_endpoints_that_exist(api: Api) -> None:
    metadata = api.http.get("/.well-known/oauth-authorization-server").json()
    assert metadata["issuer"] == str(api.http.base_url).rstrip("/")
    for name, url in metadata.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert url.startswith(metadata["issuer"])
            path = url.removeprefix(metadata["issuer"])
            assert api.http.get(path).status_code != 404, name


def test_the_api_document_is_served_with_a_page_to_read_it(api: Api) -> None:
    page = api.http.get("/docs")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "//cdn" not in page.text


def test_one_document_describes_every_service_and_nothing_internal(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    states = {part["name"]: part["state"] for part in document["x-services"]}
    assert states["auth-service"] == states["user-service"] == "current"
    assert {"/auth/token", "/v1/users/me"} <= set(document["paths"])
    # What a newcomer needs first.
    assert document["tags"][0]["name"] == "oauth"
    first = {
        operation["tags"][0]: path
        for path, item in reversed(document["paths"].items())
        for operation in item.values()
    }
    assert (first["oauth"], first["users"]) == ("/auth/token", "/v1/users")
    assert next(iter(document["paths"]["/v1/users"])) == "post"
    assert [name for name in document["components"]["schemas"] if "Problem" in name] == ["Problem"]
    for path, item in document["paths"].items():
        assert "internal" not in path
        assert not (path.startswith("/v1/users/links") and "get" in item)  # pages for people
        for method, operation in item.items():
            named = operation["summary"].lower().replace(" ", "_")
            assert not operation["operationId"].startswith(named), "a summary says what happens"
            answer = api.http.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code != 405, (method, path)
            assert answer.json()["code"] != "no_route" if answer.status_code == 404 else True, (method, path)


def test_every_operation_shows_what_is_sent_and_answered_with_values(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            answers = [one for status, one in operation["responses"].items() if status.startswith("2")]
            for said in (operation.get("requestBody", {}), *answers):
                for media_type, content in said.get("content", {}).items():
                    if "json" in media_type:  # a form shows its fields empty
                        assert is_shown(content.get("schema", {}), document), (method, path, media_type)


def is_shown(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether a reader sees a value that could be one, not the word "string"."""
    if "$ref" in schema:
        return is_shown(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if {"examples", "enum", "const", "default"} & schema.keys() or schema.get("format") in (
        "uuid",
        "date-time",
    ):
        return True
    if "anyOf" in schema:
        return any(is_shown(one, document) for one in schema["anyOf"])
    if "properties" in schema:
        return all(is_shown(one, document) for one in schema["properties"].values())
    if "items" in schema:
        return is_shown(schema["items"], document)
    return schema.get("type") != "string"


def test_a_load_balancer_learns_that_the_gateway_answers_and_nothing_else(api: Api) -> None:
    for method in ("GET", "HEAD"):
        answer = api.http.request(method, "/healthz")
        assert (answer.status_code, answer.text) == (200, '{"status":"alive"}' if method == "GET" else "")


def test_nothing_internal_is_reachable_through_the_gateway(api: Api) -> None:
    for path in ("/internal/v1/users/x", "/metrics", "/readyz"):
        answer = api.http.get(path)
        assert answer.status_code in (401, 404), path
        assert answer.headers["content-type"].startswith("application/problem+json"), path
