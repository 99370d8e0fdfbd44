"""Changed routes are read as a whole, however they are saved."""

import asyncio
from pathlib import Path

import pytest

from gateway import main
from gateway.config import RouteSettings
from gateway.main import read_routes
from gateway.reload import Watch, unless_refused
from gateway.routes import Routes
from gateway.tables import load
from tests.conftest import running
from tests.process import until
from tests.wire import get

ROUTE = '[[routes]]\nname = "{name}"\npath = "/{name}"\nmethods = ["GET"]\n'


async def test_a_file_that_is_being_saved_is_not_read_before_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "echo" / "echo.toml"
    file.parent.mkdir()
    file.write_text(ROUTE.format(name="a"))
    tables: list[Routes] = []
    watch = Watch(tmp_path, lambda: load(tmp_path), tables.append, seconds=60, settled_seconds=0.5)
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
    assert [[route.name for route in table] for table in tables] == [["a", "b"]]


async def test_a_hup_that_meets_a_file_that_is_being_saved_waits_for_the_rest_of_it(tmp_path: Path) -> None:
    file = tmp_path / "echo" / "echo.toml"
    file.parent.mkdir()
    whole = ROUTE.format(name="a") + ROUTE.format(name="b")
    file.write_text(ROUTE.format(name="a"))
    found: list[str] = []
    hup = unless_refused(
        lambda: found.append(file.read_text()), lambda: load(tmp_path), tmp_path, settled_seconds=0.5
    )
    answering = asyncio.create_task(asyncio.to_thread(hup))
    await asyncio.sleep(0.05)
    file.write_text(whole)
    await answering
    assert found == [whole]


async def test_what_is_saved_while_a_worker_reads_its_first_table_is_read_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_before_it_is_saved(settings: RouteSettings) -> Routes:
        routes = read_routes(settings)
        monkeypatch.undo()
        (tmp_path / "echo" / "more.toml").write_text(ROUTE.format(name="more") + 'access = "public"\n')
        return routes

    monkeypatch.setattr(main, "read_routes", read_before_it_is_saved)
    async with running(tmp_path, routes_watch_seconds=0.05) as house:

        async def served() -> bool:
            return (await house.send(get(b"/more", b"Connection: close"))).startswith(b"HTTP/1.1 200 ")

        await until(served, 10)
