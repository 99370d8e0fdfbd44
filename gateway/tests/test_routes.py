"""The table of routes: precedence, and refusals that say where."""

from pathlib import Path

import pytest

from gateway.routes import MethodNotAllowed, NoRoute, RoutesRefused, load


def write(folder: Path, service: str, text: str) -> None:
    (folder / service).mkdir()
    (folder / service / "routes.toml").write_text(text)


def route(name: str, path: str) -> str:
    return f'[[routes]]\nname = "{name}"\npath = "{path}"\nmethods = ["GET"]\naccess = "public"\n'


def test_an_overlap_names_both_files(tmp_path: Path) -> None:
    write(tmp_path, "one", route("a", "/things/{id}"))
    write(tmp_path, "two", route("b", "/things/{name}"))
    with pytest.raises(RoutesRefused, match=r"two/routes.toml:1: .*overlaps .*one/routes.toml:1"):
        load(tmp_path)


def test_a_broken_rule_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "one", route("a", "/a") + route("b", "b"))
    with pytest.raises(RoutesRefused, match=r"one/routes.toml:8: path: "):
        load(tmp_path)


def test_literal_beats_parameter_beats_rest(tmp_path: Path) -> None:
    write(tmp_path, "one", route("rest", "/a/*") + route("one", "/a/{id}") + route("me", "/a/me"))
    routes = load(tmp_path)
    assert [routes.match(b"GET", path).name for path in (b"/a/me", b"/a/7", b"/a/7/b")] == [
        "me",
        "one",
        "rest",
    ]
    with pytest.raises(NoRoute):
        routes.match(b"GET", b"/a/")
    with pytest.raises(MethodNotAllowed):
        routes.match(b"POST", b"/a/me")
