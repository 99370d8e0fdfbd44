"""Changed routes are read as a whole, however they are saved."""

import asyncio
import logging
from collections.abc import Collection
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway import main
from gateway.config import RouteSettings
from gateway.main import read_routes
from gateway.routing.route_table import RouteTable, read_table
from gateway.routing.watcher import RouteWatcher, unless_refused
from tests.conftest import running
from tests.process import until
from tests.wire import get

ROUTE = '[[routes]]\nname = "{name}"\npath = "/{name}"\nmethods = ["GET"]\n'


def publish(folder: Path, service: str, name: str) -> None:
    (folder / service).mkdir(parents=True, exist_ok=True)
    (folder / service / "routes.toml").write_text(ROUTE.format(name=name))


def watching(folder: Path, tables: list[RouteTable], settled_seconds: float = 0.5) -> RouteWatcher:
    def read(last: RouteTable | None = None, moving: Collection[str] = ()) -> RouteTable:
        return read_table(folder, last=last, moving=moving)

    watch = RouteWatcher(folder, read, tables.append, seconds=60, settled_seconds=settled_seconds)
    watch.begin(None)
    return watch


async def test_a_file_that_is_being_saved_is_not_read_before_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "echo" / "echo.toml"
    file.parent.mkdir()
    file.write_text(ROUTE.format(name="a"))
    tables: list[RouteTable] = []
    watch = watching(tmp_path, tables)
    # As an editor saves: first it is empty, then half there, then whole.
    file.write_text("")
    looking = asyncio.create_task(watch.look())
    await asyncio.sleep(0.05)
    with file.open("w") as saved:
        for name in ("a", "b"):
            saved.write(ROUTE.format(name=name))
            saved.flush()
            await asyncio.sleep(0.05)
    await looking
    assert [[route.name for route in table.routes] for table in tables] == [["a", "b"]]


async def test_a_service_that_is_written_on_and_on_keeps_no_other_from_its_change(tmp_path: Path) -> None:
    publish(tmp_path, "busy", "a")
    publish(tmp_path, "calm", "b")
    tables: list[RouteTable] = []
    watch = watching(tmp_path, tables, settled_seconds=0.05)
    publish(tmp_path, "calm", "c")

    async def write_on() -> None:
        for number in count():
            publish(tmp_path, "busy", f"a{number}")
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(write_on())
    looking = asyncio.create_task(watch.look())
    await until(lambda: tables, 10)
    writing.cancel()
    assert [[route.name for route in table.routes] for table in tables[:1]] == [["a", "c"]]
    await looking
    assert next(iter(tables[-1].routes)).name != "a"


async def test_a_folder_that_is_being_written_is_passed_over_until_it_has_its_name(tmp_path: Path) -> None:
    publish(tmp_path, "one", "a")
    tables: list[RouteTable] = []
    watch = watching(tmp_path, tables, settled_seconds=0.01)
    publish(tmp_path, ".two.new", "b")
    await watch.look()
    assert not tables
    (tmp_path / ".two.new").rename(tmp_path / "two")
    await watch.look()
    assert list(tables[0].used) == ["one", "two"]


async def test_a_fault_is_said_once_with_both_services_and_again_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.routes")
    publish(tmp_path, "one", "a")
    watch = watching(tmp_path, [], settled_seconds=0.01)
    publish(tmp_path, "two", "a")
    publish(tmp_path, "three", "c")
    await watch.look()
    assert watch.refused == {("two", "one"): 1}
    publish(tmp_path, "three", "d")
    await watch.look()
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the routes of two cannot be used, it has none: " in said
    assert f"{tmp_path}/two/routes.toml:1: GET /a (a) overlaps /a (a) of {tmp_path}/one/routes.toml:1" in said
    publish(tmp_path, "two", "b")
    await watch.look()
    assert watch.refused == {}
    assert "the routes of two can be used again" in caplog.text


async def test_who_starts_without_any_route_is_not_ready_until_a_service_has_one(tmp_path: Path) -> None:
    watch = watching(tmp_path, [], settled_seconds=0.01)
    assert await watch.check() == "no service has published routes that can be used"
    publish(tmp_path, "one", "a")
    await watch.look()
    assert await watch.check() is None
    (tmp_path / "one" / "routes.toml").unlink()
    await watch.look()
    assert list(watch.table.routes) == []
    assert await watch.check() is None


async def test_a_folder_that_cannot_be_read_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "routes.d"
    publish(folder, "one", "a")
    watch = watching(folder, [], settled_seconds=0.01)
    folder.rename(tmp_path / "elsewhere")
    await watch.look()
    assert [route.name for route in watch.table.routes] == ["a"]
    assert watch.refused == {("", ""): 1}
    (tmp_path / "elsewhere").rename(folder)
    await watch.look()
    assert watch.refused == {}


async def test_a_hup_that_meets_a_file_that_is_being_saved_waits_for_the_rest_of_it(tmp_path: Path) -> None:
    file = tmp_path / "echo" / "echo.toml"
    file.parent.mkdir()
    whole = ROUTE.format(name="a") + ROUTE.format(name="b")
    file.write_text(ROUTE.format(name="a"))
    found: list[str] = []
    hup = unless_refused(
        lambda: found.append(file.read_text()), lambda: read_table(tmp_path), tmp_path, settled_seconds=0.5
    )
    answering = asyncio.create_task(asyncio.to_thread(hup))
    await asyncio.sleep(0.05)
    file.write_text(whole)
    await answering
    assert found == [whole]


async def test_what_is_saved_while_a_worker_reads_its_first_table_is_read_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_before_it_is_saved(settings: RouteSettings, *of: Any) -> RouteTable:
        routes = read_routes(settings, *of)
        monkeypatch.undo()
        (tmp_path / "echo" / "more.toml").write_text(ROUTE.format(name="more") + 'access = "public"\n')
        return routes

    monkeypatch.setattr(main, "read_routes", read_before_it_is_saved)
    async with running(tmp_path, routes_watch_seconds=0.05) as gateway:

        async def served() -> bool:
            return (await gateway.send(get(b"/more", b"Connection: close"))).startswith(b"HTTP/1.1 200 ")

        await until(served, 10)
