"""Services publish, change, break and withdraw their routes; nobody else notices."""

import os
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.portal.pages import OWN_ROUTES
from gateway.routing import publications
from gateway.routing.files import Defaults, load_file
from gateway.routing.publications import fingerprints
from gateway.routing.route_table import RouteTable, read_table, takes_some
from gateway.routing.routes import Route, Routes, RoutesRefused
from tests.process import ROUTE

FIRST = ("auth-service", "user-service")
SERVICES = ("billing", "orders", "stock", *FIRST)
PATHS = ("/a", "/b", "/c", "/d/{id}", "/d/{name}")


def publish(folder: Path, service: str, *paths: str, since: str = "") -> None:
    (folder / service).mkdir(exist_ok=True)
    text = "".join(ROUTE.format(name=f"r{index}", path=path) for index, path in enumerate(paths))
    (folder / service / "routes.toml").write_text(text)
    if since:
        (folder / service / "published").write_text(since)


def paths_of(table: RouteTable, service: str) -> list[str]:
    return [route.path for route in table.used.get(service, ())]


def test_who_published_first_keeps_a_path_and_then_the_name_decides(tmp_path: Path) -> None:
    publish(tmp_path, "alpha", "/x")
    publish(tmp_path, "beta", "/x", since="2026-11-30T12:00:00.000002+00:00\n")
    publish(tmp_path, "gamma", "/x", since="2026-11-30T13:00:00.000001+01:00\n")
    for first in ("gamma", "beta", "alpha"):
        table = read_table(tmp_path)
        assert list(table.used) == [first]
        assert {refusal.overlaps for refusal in table.refused.values()} <= {first}
        shutil.rmtree(tmp_path / first)


@pytest.mark.parametrize(
    "stamp",
    ["", "yesterday", "2026-11-30T12:00:00", "2026-11-30T12:00:00Z" + " " * 64, "0001-01-01T00:00:00+14:00"],
)
def test_a_stamp_that_says_nothing_counts_as_none(tmp_path: Path, stamp: str) -> None:
    publish(tmp_path, "alpha", "/x", since=stamp)
    publish(tmp_path, "beta", "/x", since="2026-11-30T12:00:00.000002Z")
    assert list(read_table(tmp_path).used) == ["beta"]


@pytest.mark.parametrize("first", FIRST)
def test_no_service_keeps_a_path_from_those_without_which_nobody_signs_in(tmp_path: Path, first: str) -> None:
    publish(tmp_path, "orders", "/x", "/y", since="2020-01-01T00:00:00Z")
    table = read_table(tmp_path)
    publish(tmp_path, first, "/x")
    table = read_table(tmp_path, last=table)
    assert list(table.used) == [first]
    assert table.refused["orders"].overlaps == first


def test_what_is_in_use_stays_though_an_older_service_wants_it_now(tmp_path: Path) -> None:
    publish(tmp_path, "old", "/x", since="2020-01-01T00:00:00Z")
    publish(tmp_path, "new", "/y", since="2026-01-01T00:00:00Z")
    table = read_table(tmp_path)
    publish(tmp_path, "old", "/x", "/y")
    table = read_table(tmp_path, last=table)
    assert (paths_of(table, "old"), paths_of(table, "new")) == (["/x"], ["/y"])
    assert table.refused["old"].overlaps == "new"


def test_a_path_moves_to_another_service_with_no_table_without_it(tmp_path: Path) -> None:
    publish(tmp_path, "one", "/x", "/y")
    table = read_table(tmp_path)
    publish(tmp_path, "a-part", "/y")
    table = read_table(tmp_path, last=table)
    assert list(table.refused) == ["a-part"]
    publish(tmp_path, "one", "/x")
    table = read_table(tmp_path, last=table)
    assert (paths_of(table, "one"), paths_of(table, "a-part")) == (["/x"], ["/y"])
    assert not table.refused


def test_routes_that_say_what_they_said_are_the_same_objects(tmp_path: Path) -> None:
    """Limits and memories hang on them."""
    publish(tmp_path, "one", "/x")
    table = read_table(tmp_path)
    publish(tmp_path, "two", "/y")
    again = read_table(tmp_path, last=table)
    assert again.used["one"] is table.used["one"]
    assert read_table(tmp_path, last=again).routes is again.routes


@pytest.mark.parametrize("name", ["gateway", "-x", "x" * 64, "a b", "ü"])
def test_a_folder_whose_name_no_service_can_have_is_refused(tmp_path: Path, name: str) -> None:
    publish(tmp_path, name, "/x")
    table = read_table(tmp_path)
    assert "no service can have this name" in table.refused[name].reason
    assert not table.used


def test_what_is_too_large_or_no_file_or_not_readable_is_a_fault_of_its_service(tmp_path: Path) -> None:
    publish(tmp_path, "good", "/x")
    for service in ("large", "pipe", "many", "deep", "binary"):
        (tmp_path / service).mkdir()
    (tmp_path / "large" / "a.toml").write_bytes(b"#" * (1024 * 1024 + 1))
    os.mkfifo(tmp_path / "pipe" / "a.toml")
    for number in range(201):
        (tmp_path / "many" / f"{number}.toml").touch()
    (tmp_path / "deep" / "a.toml").write_text("a = " + "[" * 10_000)
    (tmp_path / "binary" / "a.toml").write_bytes(b"\xff\xfe")
    table = read_table(tmp_path)
    assert sorted(table.refused) == ["binary", "deep", "large", "many", "pipe"]
    assert list(table.used) == ["good"]


def test_there_are_at_most_so_many_services(tmp_path: Path) -> None:
    for number in range(501):
        (tmp_path / f"s{number}").mkdir()
    with pytest.raises(RoutesRefused, match="more than 500 services"):
        fingerprints(tmp_path)


class Folders(RuleBasedStateMachine):
    """Several services' folders, one change at a time, read again after each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.table = read_table(self.folder)
        self.good: dict[str, tuple[str, ...]] = {}  # what is published, unless it is broken
        self.broken: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def read(self, changed: str) -> None:
        before, self.table = self.table, read_table(self.folder, last=self.table)
        for service in self.good.keys() - {changed}:
            if paths_of(self.table, service) == paths_of(before, service):
                if service in before.used:
                    assert self.table.used[service] is before.used[service]
            elif changed not in FIRST or service in FIRST:
                # It can only have got what it waited for.
                assert service in before.refused
                assert service not in self.table.refused

    @rule(
        service=st.sampled_from(SERVICES),
        paths=st.sets(st.sampled_from(PATHS[:4]), min_size=1),
        stamp=st.integers(0, 9),
    )
    def publish(self, service: str, paths: set[str], stamp: int) -> None:
        fresh = service not in self.good
        self.good[service] = tuple(sorted(paths))
        self.broken.discard(service)
        publish(
            self.folder,
            service,
            *self.good[service],
            since=f"2026-01-0{stamp}T00:00:00Z" if fresh and stamp else "",
        )
        others = {
            path
            for name, used in self.table.used.items()
            if name != service
            for path in (r.path for r in used)
        }
        self.read(service)
        if not others & paths:
            assert paths_of(self.table, service) == list(self.good[service])

    @rule(
        service=st.sampled_from(SERVICES),
        text=st.sampled_from(["routes = 7", "[[routes]]", "\0", ROUTE.format(name="a", path="/a") * 2]),
    )
    def break_(self, service: str, text: str) -> None:
        if service in self.good:
            used = paths_of(self.table, service)
            (self.folder / service / "routes.toml").write_text(text)
            self.broken.add(service)
            self.read(service)
            assert paths_of(self.table, service) == used
            assert not self.table.refused[service].overlaps

    @rule(service=st.sampled_from(SERVICES))
    def withdraw(self, service: str) -> None:
        if self.good.pop(service, None) is not None:
            self.broken.discard(service)
            shutil.rmtree(self.folder / service)
            self.read(service)
            assert service not in self.table.used
            assert service not in self.table.refused

    @rule()
    def start_anew(self) -> None:
        self.table = read_table(self.folder)
        assert self.broken <= self.table.refused.keys()

    @invariant()
    def each_service_is_in_use_as_it_published_or_is_refused(self) -> None:
        for service, paths in self.good.items():
            current = service not in self.broken and paths_of(self.table, service) == list(paths)
            assert current == (service not in self.table.refused)

    @invariant()
    def no_two_overlap_and_whose_path_it_is_is_named(self) -> None:
        Routes(route for routes in self.table.used.values() for route in routes)
        for refusal in self.table.refused.values():
            assert not refusal.overlaps or refusal.overlaps in self.table.used


TestFolders: Any = Folders.TestCase
TestFolders.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_whatever_cannot_be_read_of_one_service_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "alpha", "/x")
    publish(tmp_path, "beta", "/y")

    def fail(file: Path, defaults: Defaults) -> Iterator[Route]:
        if file.parent.name == "alpha":
            raise ZeroDivisionError("nobody foresaw this")
        return load_file(file, defaults)

    monkeypatch.setattr(publications, "load_file", fail)
    table = read_table(tmp_path)
    assert list(table.used) == ["beta"]
    assert "nobody foresaw this" in table.refused["alpha"].reason
    assert "Traceback" in caplog.text


def test_a_folder_whose_name_no_log_can_show_is_nobodys(tmp_path: Path) -> None:
    for name in (b"a\nb", b"a\xffb"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        (folder / "routes.toml").write_text(ROUTE.format(name="a", path="/a"))
    publish(tmp_path, "orders", "/x")
    table = read_table(tmp_path)
    assert (list(table.used), dict(table.refused)) == (["orders"], {})


def test_thousands_of_routes_are_refused_before_the_time_that_they_take(tmp_path: Path) -> None:
    publish(tmp_path, "orders", *(f"/x/{number}" for number in range(2001)))
    publish(tmp_path, "stock", *(f"/y/{number}" for number in range(2000)))
    table = read_table(tmp_path)
    assert "more than 2000 routes" in table.refused["orders"].reason
    # Each is named by the line at which it begins.
    assert [route.source.rpartition(":")[2] for route in table.used["stock"][:3]] == ["1", "6", "11"]


def test_a_services_files_have_a_bounded_size_in_all(tmp_path: Path) -> None:
    publish(tmp_path, "orders", "/x")
    for number in range(2):
        (tmp_path / "orders" / f"{number}.toml").write_text("#" * 600_000)
    assert "more than 1048576 bytes" in read_table(tmp_path).refused["orders"].reason


ENTRY = '[[routes]]\nname = "a"\npath = "/a"\nmethods = ["GET"]\n'


@pytest.mark.parametrize("file", ["routes.toml", "upstreams.toml"])
@pytest.mark.parametrize(
    "text",
    [
        "a." * 50_000 + "a = 1",
        "[" + '"a" . ' * 15_000 + "a]",
        "x = {" + "a." * 50_000 + "a = 1}",
        r'"\"' * 25_000,
        "[[routes]]\n" * 9_000,
        "routes = [" + "{}," * 30_000 + "]",
        "routes = [" + "1," * 40_000 + "]",
        "stable = [" + "1," * 40_000 + "]",
        ENTRY + "consumes = [" + "1," * 40_000 + "]",
        ENTRY + "cors = {origins = [" + "1," * 40_000 + "]}",
        ENTRY + "".join(f"a{number} = 1\n" for number in range(8_000)),
        ENTRY + 'produces = ["' + "a/" * 40_000 + '"]',
    ],
    ids=range(12),
)
def test_whatever_a_file_holds_it_is_refused_in_little_time_and_memory(
    tmp_path: Path, file: str, text: str
) -> None:
    """Every worker reads it before it serves: one that takes minutes, or a gigabyte, is everybody's outage."""
    publish(tmp_path, "orders", "/x")
    (tmp_path / "orders" / file).write_text(text)
    tracemalloc.start()
    began = time.thread_time()
    try:
        table = read_table(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.thread_time() - began < 10  # tracing takes most of it
    assert peak < 150 * len(text)
    assert len(table.refused["orders"].reason) <= 1000


_LONG_LIST = "['" + "a','" * 100 + "a']"


@pytest.mark.parametrize(
    "said",
    [f"name = '{'a' * 101}'", f"scopes = {_LONG_LIST}", f"cors = {{origins = ['*'], expose = {_LONG_LIST}}}"],
)
def test_what_stands_in_responses_and_metrics_is_short(tmp_path: Path, said: str) -> None:
    publish(tmp_path, "orders", "/x")
    name = "" if said.startswith("name") else "name = 'a'\n"
    (tmp_path / "orders" / "more.toml").write_text(
        f"[[routes]]\n{name}{said}\npath = '/a'\nmethods = ['GET']\n"
    )
    assert "too long" in read_table(tmp_path).refused["orders"].reason


@pytest.mark.parametrize(
    ("path", "overlaps"),
    [
        ("/docs/start.js", "gateway"),
        ("/v1/users/0197a1b2-0000-7000-8000-000000000001", "user-service"),
        ("/v1/users/{name}/export", ""),
        ("/v1/users/0197a1b2-0000-7000-8000-000000000001/avatar", "user-service"),
        ("/v1/users/0197a1b2-0000-7000-8000-000000000001/{what}", "user-service"),
        ("/v1/users/0197a1b2-0000-7000-8000-000000000001/*", "user-service"),
        ("/v1/users/0197a1b2-0000-7000-8000-000000000001/orders", ""),
        ("/v1/{kind}/0197a1b2-0000-7000-8000-000000000001/{what}", ""),
        ("/v1/files/a/{b}", "user-service"),
        ("/v1/files/a/*", "user-service"),
        ("/v1/files", ""),
        ("/v1/users/{id}/*", ""),
        ("/v1/*", ""),
    ],
)
def test_nobody_takes_one_of_the_values_of_a_parameter_of_those_by_whom_people_sign_in(
    tmp_path: Path, path: str, overlaps: str
) -> None:
    """A record's path that is written out would decide before `{id}`, and get the tokens of whoever opens it."""
    publish(tmp_path, "orders", path, since="2020-01-01T00:00:00Z")
    table = read_table(tmp_path, OWN_ROUTES)
    publish(tmp_path, "user-service", "/v1/users/{id}", "/v1/users/{id}/avatar", "/v1/files/*")
    table = read_table(tmp_path, OWN_ROUTES, last=table)
    assert paths_of(table, "orders") == ([] if overlaps else [path])
    assert {refusal.overlaps for refusal in table.refused.values()} == ({overlaps} if overlaps else set())


@pytest.mark.parametrize("path", ["/v1/users/{id}", "/docs", "/x"])
def test_head_belongs_to_the_service_that_has_get(tmp_path: Path, path: str) -> None:
    """It is asked with the same token as GET, by whoever wants the fields alone."""
    publish(tmp_path, "orders", "/x", since="2020-01-01T00:00:00Z")
    publish(tmp_path, "user-service", "/v1/users/{id}")
    publish(tmp_path, "stock", path)
    file = tmp_path / "stock" / "routes.toml"
    file.write_text(file.read_text().replace("GET", "HEAD"))
    table = read_table(tmp_path, OWN_ROUTES)
    assert "stock" in table.refused
    assert "stock" not in table.used


def test_one_service_answers_get_and_head_of_a_path_by_two_routes(tmp_path: Path) -> None:
    publish(tmp_path, "orders", "/x", "/x")
    file = tmp_path / "orders" / "routes.toml"
    file.write_text(file.read_text().replace("GET", "HEAD", 1))
    table = read_table(tmp_path)
    publish(tmp_path, "orders", "/y")
    publish(tmp_path, "stock", "/x")
    moved = read_table(tmp_path, last=table)
    assert (paths_of(table, "orders"), paths_of(moved, "stock")) == (["/x", "/x"], ["/x"])


def takes(one: str, other: str) -> bool:
    """By asking: whether the first gets a request that the second alone would have got."""
    both = Routes([a_route("one", one), a_route("two", other)])
    alone = Routes([a_route("two", other)])
    asked = (
        "/".join(("", *segments)) for length in (1, 2, 3, 4) for segments in product("abz", repeat=length)
    )
    return any(
        alone.find(b"GET", path.encode()) and both.match(b"GET", path.encode()).service == "one"
        for path in asked
    )


def a_route(service: str, path: str) -> Route:
    return Route(service, service, path, frozenset(("GET",)), "x.toml:1")


_segments = st.lists(st.sampled_from(["a", "b", "{x}"]), max_size=3).map(
    lambda many: "".join(f"/{one}" for one in many)
)
_pattern = st.tuples(_segments, st.sampled_from(["", "/*"])).map("".join).filter(bool)


@given(_pattern, _pattern)
@settings(max_examples=300, deadline=None)
def test_a_path_is_guarded_exactly_if_it_would_get_somebody_elses_requests(path: str, present: str) -> None:
    if path.replace("{x}", "{}") != present.replace("{x}", "{}"):
        assert takes_some(path, present) == takes(path, present)
