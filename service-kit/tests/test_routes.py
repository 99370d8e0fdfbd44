"""A service's routes are replaced at once, and what tools wrote beside them stays."""

import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from service_kit import routes
from service_kit.routes import Refused, publish, withdraw

ROUTE = '[[routes]]\nname = "orders.list"\npath = "/v1/orders"\nmethods = ["GET"]\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "orders.toml").write_text(ROUTE)
    return folder


@pytest.fixture
def routes_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "routes.d"
    folder.mkdir()
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_first_publication_makes_what_tools_write(source: Path, routes_dir: Path) -> None:
    assert publish("orders", source, routes_dir)
    found = texts(routes_dir / "orders")
    assert found.pop("orders.toml") == ROUTE
    assert tomllib.loads(found.pop("upstreams.toml")) == {
        "stable": ["orders:8000"],
        "internal": ["orders:9000"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\n", found.pop("published"))
    assert not found


def test_a_later_one_replaces_the_teams_files_and_keeps_what_tools_wrote(
    source: Path, routes_dir: Path
) -> None:
    publish("orders", source, routes_dir)
    folder = routes_dir / "orders"
    (folder / "upstreams.toml").write_text('stable = ["10.0.0.7:8000"]\n')
    before = texts(folder)
    (source / "orders.toml").rename(source / "renamed.toml")
    assert publish("orders", source, routes_dir)
    assert texts(folder) == {
        "renamed.toml": ROUTE,
        "upstreams.toml": 'stable = ["10.0.0.7:8000"]\n',
        "published": before["published"],
    }
    assert [each.name for each in routes_dir.iterdir() if not each.name.startswith(".")] == ["orders"]


def test_the_same_again_touches_nothing(source: Path, routes_dir: Path) -> None:
    publish("orders", source, routes_dir)
    before = (routes_dir / "orders").stat()
    assert not publish("orders", source, routes_dir)
    assert (routes_dir / "orders").stat() == before


def test_addresses_that_are_given_replace_what_was_known(source: Path, routes_dir: Path) -> None:
    publish("orders", source, routes_dir)
    given = {"stable": ["127.0.0.1:4711"], "internal": ["[::1]:4712"]}
    assert publish("orders", source, routes_dir, given)
    assert tomllib.loads((routes_dir / "orders/upstreams.toml").read_text()) == given


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_whoever_reads_meanwhile_finds_one_state_or_the_other(
    source: Path, routes_dir: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(routes, "_exchange", lambda *_: False)
    (source / "more.toml").write_text(ROUTE)
    publish("orders", source, routes_dir)
    whole = {"orders.toml", "more.toml", "upstreams.toml", "published"}
    seen: list[frozenset[str]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(frozenset(file.name for file in (routes_dir / "orders").iterdir()))
            except FileNotFoundError:
                assert not exchanges

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(30):
            (source / "orders.toml").write_text(f"{ROUTE}# {number}\n")
            assert publish("orders", source, routes_dir)
            begun = len(seen)
            while len(seen) < begun + 2 and reader.is_alive():
                time.sleep(0.001)  # whoever lists is done before it is replaced once more
    finally:
        done.set()
        reader.join()
    assert set(seen) == {frozenset(whole)}


def test_two_who_publish_at_once_both_succeed(source: Path, routes_dir: Path) -> None:
    command = [sys.executable, "-m", "service_kit.routes", "publish", "--from", str(source)]
    both = [
        subprocess.Popen([*command, "--routes-dir", str(routes_dir), "orders"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [each.communicate(timeout=60)[0] for each in both]
    assert [each.returncode for each in both] == [0] * 4
    assert outputs.count(b"routes of orders: published\n") == 1


def test_withdrawn_is_gone_with_its_stamp(source: Path, routes_dir: Path) -> None:
    publish("orders", source, routes_dir)
    assert withdraw("orders", routes_dir)
    assert not withdraw("orders", routes_dir)
    assert not [each for each in routes_dir.iterdir() if not each.name.startswith(".")]


@pytest.mark.parametrize("service", ["", ".orders", "../orders", "orders/", "Orders", "a" * 64, "orders\n"])
def test_a_name_that_is_no_services_is_refused(service: str, source: Path, routes_dir: Path) -> None:
    with pytest.raises(Refused, match="is no service's name"):
        publish(service, source, routes_dir)
    with pytest.raises(Refused, match="is no service's name"):
        withdraw(service, routes_dir)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("orders.toml", b"[[routes]", "at line 1"),
        ("orders.toml", b"\xff", "utf-8"),
        ("upstreams.toml", b"", "give this file another name"),
        ("orders.toml", b"#" * (1024 * 1024 + 1), "bytes in all"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_changes_nothing(
    name: str, content: bytes, reason: str, source: Path, routes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("orders", source, routes_dir)
    before = texts(routes_dir / "orders")
    (source / name).write_bytes(content)
    command = ["publish", "orders", "--from", str(source), "--routes-dir", str(routes_dir)]
    assert routes.main(command) == 1
    said = capsys.readouterr().err
    assert said.startswith("routes of orders refused: ")
    assert reason in said
    assert said.count("\n") == 1
    assert texts(routes_dir / "orders") == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "/nowhere"],
        ["--routes-dir", "/nowhere"],
        ["--stable", "a:1"],
        ["--stable", 'a:1"]', "--internal", "a:2"],
        ["--stable", "a", "--internal", "a:2"],
    ],
)
def test_a_command_that_cannot_be_followed_is_refused(
    arguments: list[str], source: Path, routes_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["publish", "orders", "--from", str(source), "--routes-dir", str(routes_dir), *arguments]
    assert routes.main(command) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (routes_dir / "orders").exists()


def test_whatever_the_umask_others_can_read_it(source: Path, routes_dir: Path) -> None:
    before = os.umask(0o077)
    try:
        publish("orders", source, routes_dir)
    finally:
        os.umask(before)
    folder = routes_dir / "orders"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


def test_a_draft_of_one_that_was_killed_is_in_nobodys_way(source: Path, routes_dir: Path) -> None:
    for left in (".orders.new", ".orders.old"):
        (routes_dir / left).mkdir()
        (routes_dir / left / "half.toml").write_text("[[rou")
    publish("orders", source, routes_dir)
    assert "half.toml" not in texts(routes_dir / "orders")
