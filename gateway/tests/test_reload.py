"""Changed routes are read as a whole, however they are saved."""

import asyncio
from pathlib import Path

from gateway.reload import Watch, unless_refused
from gateway.routes import Routes
from gateway.tables import load

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
