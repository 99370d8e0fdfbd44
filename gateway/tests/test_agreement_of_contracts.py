"""A service's routes and its contract say the same, or both files are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.agreement import disagreements, main

ONE: dict[str, Any] = {"parameters": [{"name": "key", "in": "path", "schema": {"type": "string"}}]}


def folder_of(folder: Path, routes: str, paths: dict[str, Any], **document: Any) -> Path:
    (folder / "routes").mkdir()
    (folder / "contract").mkdir()
    (folder / "routes/items.toml").write_text(routes)
    (folder / "contract/openapi.json").write_text(json.dumps({"paths": paths} | document))
    return folder


def route(path: str, *methods: str, more: str = "") -> str:
    name = path.strip("/").replace("/", ".").translate({ord(char): None for char in "{}*"}) or "root"
    listed = json.dumps(methods or ["GET"])
    return f'[[routes]]\nname = "{name}x{len(more)}"\npath = "{path}"\nmethods = {listed}\n{more}\n'


@pytest.mark.parametrize(
    ("routes", "paths"),
    [
        (
            route("/v1/items") + route("/v1/items/{id}"),
            {"/v1/items": {"get": {}}, "/v1/items/{key}": {"get": ONE}},
        ),
        (route("/v1/items/*", "GET", "PUT"), {"/v1/items/{key}": {"get": ONE}, "/v1/items/a/b": {"put": {}}}),
        (route("/v1/items", "GET", "HEAD"), {"/v1/items": {"get": {}}}),
        (route("/v1/items/{key}"), {"/v1/items/first": {"get": {}}, "/v1/items/{key}": {"get": ONE}}),
        (route("/old/{key}", more='rewrite = "/v1/items/{key}"'), {"/v1/items/{key}": {"get": ONE}}),
        (
            route("/old/{key}", more='rewrite = "/v1/items/{key}"') + route("/v1/items/{key}"),
            {"/v1/items/{key}": {"get": ONE}},
        ),
        (route("/old/*", more='rewrite = "/v1/{rest}"'), {"/v1/items/{key}": {"get": ONE}}),
        (route("/live", more="websocket = true"), {}),
        # A stricter limit for one value of a parameter.
        (route("/v1/items/{key}") + route("/v1/items/first"), {"/v1/items/{key}": {"get": ONE}}),
    ],
)
def test_what_agrees_says_nothing(tmp_path: Path, routes: str, paths: dict[str, Any]) -> None:
    assert list(disagreements(folder_of(tmp_path, routes, paths))) == []


@pytest.mark.parametrize(
    ("routes", "paths", "forwarded_in_vain", "not_forwarded"),
    [
        (route("/v1/items"), {"/v1/things": {"get": {}}}, ["GET /v1/items"], ["GET /v1/things"]),
        (route("/v1/items", "GET", "POST"), {"/v1/items": {"get": {}}}, ["POST /v1/items"], []),
        (route("/v1/items"), {"/v1/items": {"get": {}, "delete": {}}}, [], ["DELETE /v1/items"]),
        (route("/v1/items/*"), {"/v1/items": {"get": {}}}, ["GET /v1/items/*"], ["GET /v1/items"]),
        (route("/v1/{key}"), {"/v1/{key}/parts": {"get": ONE}}, ["GET /v1/{key}"], ["GET /v1/{key}/parts"]),
        (route("/v1", more='rewrite = "/v2"'), {"/v1": {"get": {}}}, ["GET /v1"], ["GET /v1"]),
        (route("/live", "GET", "POST", more="websocket = true"), {}, ["POST /live"], []),
    ],
)  # fmt: skip
def test_what_nobody_answers_and_what_nobody_forwards_is_told_with_both_files(
    tmp_path: Path, routes: str, paths: dict[str, Any], forwarded_in_vain: list[str], not_forwarded: list[str]
) -> None:
    lines = list(disagreements(folder_of(tmp_path, routes, paths)))
    assert all("routes/" in line and "contract/openapi.json" in line for line in lines)
    assert [
        line.split(": ")[1].split(" (")[0] for line in lines if "answered by nothing" in line
    ] == forwarded_in_vain
    assert [line.split(": ")[1].split(" is ")[0] for line in lines if "by no route" in line] == not_forwarded


@pytest.mark.parametrize(
    "schema",
    [{"format": "uuid"}, {"enum": ["first", "second"]}, {"pattern": "^[0-9a-f]+$"}, {"type": "integer"}],
)
def test_a_literal_that_a_parameter_cannot_be_is_answered_by_nothing(
    tmp_path: Path, schema: dict[str, Any]
) -> None:
    """As when `/me` was renamed."""
    one = {"parameters": [{"name": "id", "in": "path", "schema": schema}]}
    routes = route("/v1/items/me") + route("/v1/items/{id}")
    [line] = disagreements(folder_of(tmp_path, routes, {"/v1/items/{id}": {"get": one}}))
    assert "GET /v1/items/me" in line


def test_what_a_contract_does_not_list_is_answered_too(tmp_path: Path) -> None:
    unlisted: dict[str, Any] = {"/v1/links/{kind}": {"get": {}}}
    routes = route("/v1/links/{kind}", "GET", "POST")
    assert not list(
        disagreements(
            folder_of(tmp_path, routes, {"/v1/links/{kind}": {"post": {}}}, **{"x-unlisted": unlisted})
        )
    )


def test_the_command_fails_with_one_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder_of(tmp_path, route("/v1/items"), {}))]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "routes/items.toml").write_text("[[routes]]\n")
    assert main([str(tmp_path)]) == 1
    assert "routes/items.toml:1: name" in capsys.readouterr().err
    (tmp_path / "contract/openapi.json").unlink()
    assert main([str(tmp_path)]) == 0
    assert "not compared" in capsys.readouterr().out
