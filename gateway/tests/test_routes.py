"""The table of routes: precedence, and refusals that say where."""

import re
from pathlib import Path

import pytest

from gateway.routing.files import RouteEntry
from gateway.routing.route_table import read_table
from gateway.routing.routes import NoRoute, Routes
from service_kit.exception_handlers import MethodNotAllowed


def write(folder: Path, service: str, text: str) -> None:
    (folder / service).mkdir()
    (folder / service / "routes.toml").write_text(text)


def load(folder: Path) -> Routes:
    table = read_table(folder)
    assert not table.refused
    return table.routes


def refusal_of(folder: Path, service: str = "one") -> str:
    return read_table(folder).refused[service].reason


def route(name: str, path: str, method: str = "GET") -> str:
    return f'[[routes]]\nname = "{name}"\npath = "{path}"\nmethods = ["{method}"]\naccess = "public"\n'


def test_an_overlap_names_both_files(tmp_path: Path) -> None:
    write(tmp_path, "one", route("a", "/things/{id}"))
    write(tmp_path, "two", route("b", "/things/{name}"))
    assert re.search(r"two/routes.toml:1: .*overlaps .*one/routes.toml:1", refusal_of(tmp_path, "two"))


def test_a_broken_rule_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "one", route("a", "/a") + route("b", "b"))
    assert re.search(r"one/routes.toml:8: path: ", refusal_of(tmp_path))


def test_a_misspelt_field_is_named_before_the_one_it_stands_for(tmp_path: Path) -> None:
    write(tmp_path, "one", route("a", "/a").replace("methods", "method"))
    assert re.search(r"one/routes.toml:4: method: there is no such field$", refusal_of(tmp_path))


PLAIN = '[[routes]]\nname = "a"\npath = "/a"\nmethods = ["GET"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN + "limit = { rate = a }", ":5: not TOML: "),
        (PLAIN + 'name = "b"', ":5: not TOML: "),
        ('x = "', ":1: not TOML: Unterminated string"),
        ('\n[[route]]\nname = "a"', ":2: route: a file holds [[routes]] tables and nothing else"),
        ('\n[routes]\nname = "a"', ":2: routes: each route is a table that begins with [[routes]]"),
        ('routes = ["a"]', ":1: routes: each route is a table that begins with [[routes]]"),
        (PLAIN.replace('["GET"]', '"GET"'), ":4: methods: a list is needed: [ ... ]"),
        (PLAIN + "limit = 5", ":5: limit: a table is needed: { ... }"),
        (PLAIN + "[routes.limit]\nrate = 1\nwindow = 5", ":5: limit.window: there is no such field"),
        (PLAIN + 'access = "public"\nscopes = ["x"]', ":1: a public route cannot ask for scopes or roles"),
        (
            PLAIN + 'rewrite = "/{id}"',
            ":1: rewrite begins with / and can use nothing, as path has no parameter",
        ),
    ],
)
def test_every_fault_is_told_with_its_line_in_words_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "one", text)
    assert refusal_of(tmp_path).startswith(f"{tmp_path}/one/routes.toml{said}")


def test_a_file_that_lies_in_no_services_folder_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(PLAIN)
    reason = refusal_of(tmp_path, "one.toml")
    assert re.search(r"one.toml: a routes file lies in a folder that is named like its", reason)


def test_the_readme_lists_every_field_of_a_route() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    listed = {
        name
        for row in re.findall(r"^\| (`[a-z_`, ]+`) \|", readme, re.M)
        for name in re.findall(r"[a-z_]+", row)
    }
    assert listed == set(RouteEntry.model_fields)


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


def test_a_slash_too_many_is_refused_with_the_path_that_was_meant(tmp_path: Path) -> None:
    write(tmp_path, "one", route("list", "/v1/things") + route("one", "/v1/things/{id}"))
    routes = load(tmp_path)
    told = {}
    for path in (b"/v1/things/", b"/v1/things/7f/", b"/v1/other/", b"/v1/things//", b"/"):
        with pytest.raises(NoRoute) as refused:
            routes.match(b"GET", path)
        told[path] = refused.value.detail
    assert "`/v1/things`" in told[b"/v1/things/"]
    assert "`/v1/things/{id}`" in told[b"/v1/things/7f/"]  # nothing of the request comes back
    assert not any("is served" in told[path] for path in (b"/v1/other/", b"/v1/things//", b"/"))


def test_a_path_leads_where_it_led_however_many_were_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "one", route("one", "/a/{id}") + route("me", "/a/me") + route("rest", "/b/*", "POST"))
    routes = load(tmp_path)
    for _ in range(2):
        assert {routes.match(b"GET", b"/a/%d" % number).name for number in range(5000)} == {"one"}
        assert routes.match(b"GET", b"/a/me").name == "me"
        assert routes.match(b"POST", b"/b/" + b"c" * 5000).name == "rest"
        with pytest.raises(MethodNotAllowed):
            routes.match(b"GET", b"/b/c")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        (b"DELETE", b"/a/me", "GET, HEAD, OPTIONS"),
        (b"GET", b"/a/reset", "OPTIONS, POST"),
        (b"PUT", b"/a/7", "DELETE, OPTIONS"),
        (b"GET", b"/a/me/picture", "OPTIONS, PUT"),
        (b"POST", b"/a/me/other", "GET, HEAD, OPTIONS"),
    ],
)
def test_what_is_written_out_for_one_method_is_no_parameter_for_another(
    tmp_path: Path, method: bytes, path: bytes, allow: str
) -> None:
    lines = [
        route("one", "/a/{id}", "DELETE"),
        route("me", "/a/me"),
        route("reset", "/a/reset", "POST"),
        route("picture", "/a/{id}/picture"),
        route("my-picture", "/a/me/picture", "PUT"),
        route("rest", "/a/*"),
    ]
    write(tmp_path, "one", "".join(lines))
    with pytest.raises(MethodNotAllowed) as refusal:
        load(tmp_path).match(method, path)
    assert refusal.value.headers == {"Allow": allow}


def test_two_services_may_share_a_path_a_method_each(tmp_path: Path) -> None:
    write(tmp_path, "one", route("read", "/a/{id}"))
    write(tmp_path, "two", route("write", "/a/{name}", "POST"))
    routes = load(tmp_path)
    assert [routes.match(method, b"/a/7").service for method in (b"HEAD", b"POST")] == ["one", "two"]


@pytest.mark.parametrize(
    "wrong",
    [
        "limit = { rate = 1, per_seconds = inf }",
        "limit = { rate = 1, per_seconds = 1e300 }",
        "limit = { rate = 1, per_seconds = 31622400, burst = 2 }",
        f"limit = {{ rate = {10**30} }}",
        "first_byte_seconds = inf",
        "idle_seconds = nan",
        f"body_max_bytes = {10**30}",
        'scopes = ["a\\r\\nSet-Cookie: b"]',
        'scopes = ["\u0167"]',
        'roles = ["a\\nb"]',
        'cors = { origins = ["*"], expose = ["a\\r\\nSet-Cookie: b"] }',
        'cors = { origins = ["*"], headers = ["\u0167"] }',
        'cors = { origins = ["*"], max_age_seconds = -1 }',
        'rewrite = "/a HTTP/1.1\\r\\nX-Forwarded-For: 192.0.2.1"',
        'rewrite = "/\u0167"',
        'rewrite = "/a//b"',
        'rewrite = "/a/../b"',
        'rewrite = "/a?b=c"',
    ],
)
def test_what_no_response_or_clock_could_hold_is_refused_in_the_table(tmp_path: Path, wrong: str) -> None:
    write(tmp_path, "one", PLAIN + wrong + "\n")
    assert re.search(rf"one/routes.toml:5: {wrong.partition(' ')[0]}", refusal_of(tmp_path))


@pytest.mark.parametrize("path", ["/a" * 65, "/" + "a" * 1100])
def test_a_path_has_a_bounded_length_as_finding_it_has(tmp_path: Path, path: str) -> None:
    write(tmp_path, "one", route("a", path))
    assert "at most 64 segments" in refusal_of(tmp_path)


def test_a_segment_is_moved_in_one_way_alone(tmp_path: Path) -> None:
    """Undoing `/{a}{b}` for the merged document tries every way to divide a segment, for as long as that takes."""
    write(tmp_path, "one", PLAIN.replace("/a", "/{a}/{b}") + 'rewrite = "/{a}{b}"\n')
    assert "at most one {parameter} in each" in refusal_of(tmp_path)
    write(tmp_path, "two", PLAIN.replace("/a", "/c/{a}/{b}") + 'rewrite = "/v1/{a}.json/of-{b}/"\n')
    assert [each.service for each in read_table(tmp_path).routes] == ["two"]
