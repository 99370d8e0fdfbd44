"""Units of work: one transaction a request, run again as a whole, bounded in time; and what is asked in them."""

import ast
import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSWORD, Service
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

import user_service
from user_service.database import CONNECT_SECONDS, Database, DatabaseBusy, DatabaseUnavailable, create_engine
from user_service.main import Parts

on_mysql = pytest.mark.parametrize(
    "empty_database", [pytest.param("mysql", marks=pytest.mark.containers)], indirect=True
)


@contextmanager
def statements(parts: Parts) -> Iterator[list[str]]:
    """Every statement that reaches the database inside the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    engine = parts.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


async def counters(database: Database, *names: str) -> None:
    async def create(connection: AsyncConnection) -> None:
        for name in names:
            await connection.execute(
                text("INSERT INTO schema_floor (id, revision) VALUES (:id, 'x')"),
                {"id": names.index(name) + 2},
            )

    await database.transaction(create)


async def touch(connection: AsyncConnection, row: int) -> None:
    await connection.execute(
        text("UPDATE schema_floor SET revision = CONCAT(LEFT(revision, 8), 'y') WHERE id = :id"), {"id": row}
    )


def test_a_unit_of_work_captures_nothing() -> None:
    """It may run twice, so all that it uses stands in its parameters: no function of a connection is nested."""
    functions = (ast.AsyncFunctionDef, ast.FunctionDef, ast.Lambda)
    for file in Path(user_service.__file__).parent.rglob("*.py"):
        for outer in ast.walk(ast.parse(file.read_text("utf-8"))):
            for inner in ast.walk(outer) if isinstance(outer, functions) else ():
                if inner is not outer and isinstance(inner, functions) and file.name != "database.py":
                    assert "connection" not in [each.arg for each in inner.args.args], (file, inner.lineno)


@on_mysql
async def test_a_deadlocked_transaction_runs_again_as_a_whole(parts: Parts) -> None:
    await counters(parts.database, "a", "b")
    first_tries = asyncio.Barrier(2)
    tries: list[str] = []

    async def lock_both(who: str, one: int, other: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            again = who in tries
            tries.append(who)
            await touch(connection, one)
            if not again:
                await first_tries.wait()  # each holds what the other wants next
            await touch(connection, other)

        await parts.database.transaction(work)

    await asyncio.gather(lock_both("ada", 2, 3), lock_both("grace", 3, 2))
    assert len(tries) == 3
    rows = await parts.database.read(
        lambda c: c.execute(text("SELECT revision FROM schema_floor WHERE id > 1"))
    )
    assert rows.scalars().all() == ["xyy", "xyy"]


@pytest.mark.quiet
@on_mysql
async def test_who_waits_too_long_for_a_row_is_told_to_come_again(parts: Parts) -> None:
    await counters(parts.database, "a")
    held, done = asyncio.Event(), asyncio.Event()

    async def hold(connection: AsyncConnection) -> None:
        await touch(connection, 2)
        held.set()
        await done.wait()

    holder = asyncio.create_task(parts.database.transaction(hold))
    await held.wait()
    began = time.monotonic()
    with pytest.raises(DatabaseBusy) as refusal:
        await parts.database.transaction(lambda connection: touch(connection, 2))
    assert time.monotonic() - began < 2.5
    assert refusal.value.headers == {"Retry-After": "1"}
    done.set()
    await holder


async def test_a_failed_unit_of_work_leaves_nothing_behind(parts: Parts) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO schema_floor (id, revision) VALUES (7, 'half')"))
        raise LookupError

    with pytest.raises(LookupError):
        await parts.database.transaction(work)
    found = await parts.database.read(lambda c: c.execute(text("SELECT id FROM schema_floor WHERE id = 7")))
    assert found.all() == []


@pytest.mark.quiet
@on_mysql
async def test_a_slow_statement_ends_at_the_deadline(database_url: str) -> None:
    database = Database(create_engine(make_url(database_url)), deadline=0.5)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await database.read(lambda connection: connection.execute(text("SELECT SLEEP(5)")))
    assert time.monotonic() - began < 1
    response = await database.read(lambda connection: connection.execute(text("SELECT 1")))
    assert response.scalar() == 1
    await database.close()


@on_mysql
async def test_a_longer_deadline_is_one_for_the_statement_too(database_url: str) -> None:
    database = Database(create_engine(make_url(database_url), deadline=10), deadline=10)
    slept = await database.read(lambda connection: connection.execute(text("SELECT SLEEP(3.1)")))
    assert slept.scalar() == 0  # 1 if it was woken
    await database.close()


@pytest.mark.quiet
@on_mysql
async def test_units_of_work_of_one_request_share_its_deadline(database_url: str) -> None:
    database = Database(create_engine(make_url(database_url)), deadline=1.0)
    database.begin_request()
    await database.read(lambda connection: connection.execute(text("SELECT SLEEP(0.7)")))
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await database.read(lambda connection: connection.execute(text("SELECT SLEEP(5)")))
    assert time.monotonic() - began < 0.6
    await database.close()


@on_mysql
async def test_every_connection_says_itself_what_the_code_relies_on(parts: Parts) -> None:
    names = (
        "transaction_isolation, innodb_lock_wait_timeout, lock_wait_timeout, max_execution_time, time_zone, "
        "character_set_connection"
    )
    query = "SELECT " + ", ".join(f"@@session.{name}" for name in names.split(", "))
    response = await parts.database.read(lambda connection: connection.execute(text(query)))
    assert tuple(response.one()) == ("READ-COMMITTED", 1, 2, 10_000, "+00:00", "utf8mb4")


@on_mysql
async def test_the_pool_never_grows_beyond_its_size(database_url: str) -> None:
    database = Database(create_engine(make_url(database_url), pool_size=3, pool_timeout=0.2))
    both = [database.read(lambda connection: connection.execute(text("SELECT SLEEP(0.6)"))) for _ in range(5)]
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [type(response) for response in answers].count(DatabaseUnavailable) == 2
    await database.close()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server whose queue of connections is full, so that nothing answers another one."""
    with socket.socket() as server, ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_while_the_server_is_silent_one_caller_a_second_finds_out_and_nobody_else_waits() -> None:
    async def told_after() -> float:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await database.read(lambda connection: connection.execute(text("SELECT 1")))
        return time.monotonic() - began

    with silent_server() as port:
        database = Database(create_engine(make_url(f"mysql+asyncmy://users:x@127.0.0.1:{port}/users")))
        finds_out = await told_after()
        assert finds_out > CONNECT_SECONDS / 2
        assert await told_after() < finds_out / 2
        await asyncio.sleep(1)
        assert await told_after() > CONNECT_SECONDS / 2
        await database.close()


@on_mysql
async def test_cancelled_work_never_mixes_up_answers_nor_keeps_a_connection(database_url: str) -> None:
    database = Database(create_engine(make_url(database_url), pool_size=10))

    async def ask(number: int) -> int:
        async def work(connection: AsyncConnection) -> int:
            await connection.execute(text("SELECT SLEEP(0.001)"))
            response = await connection.execute(text("SELECT :number"), {"number": str(number)})
            return int(response.scalar_one())

        run = database.transaction if number % 2 else database.read
        return await run(work)

    for start in range(0, 3000, 100):
        tasks = [asyncio.create_task(ask(number)) for number in range(start, start + 100)]
        for index, task in enumerate(tasks):
            asyncio.get_running_loop().call_later(0.0003 * index, task.cancel)
        for number, response in enumerate(await asyncio.gather(*tasks, return_exceptions=True), start):
            assert isinstance(response, asyncio.CancelledError) or response == number
    assert await asyncio.gather(*(ask(number) for number in range(100))) == list(range(100))
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined] # of its pool class
    await database.close()


async def test_an_answer_is_committed_before_it_is_given(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails is a 503, never a 201 that is not so."""
    committing = parts.database.engine.sync_engine

    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement == "COMMIT":
            raise ConnectionResetError

    event.listen(committing, "before_cursor_execute", fail)
    body = {"email": "ada@example.com", "name": "Ada", "password": PASSWORD}
    response = await service.anonymous.post("/v1/users", json=body)
    event.remove(committing, "before_cursor_execute", fail)
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert (await service.anonymous.post("/v1/users", json=body)).status_code == 201


async def test_a_request_begins_and_commits_at_most_one_transaction(service: Service, parts: Parts) -> None:
    ada = await service.register()
    admin = service.admin()
    match = {"If-Match": ada.etag}
    change = {"current_password": PASSWORD, "new_password": f"{PASSWORD} 2"}
    with statements(parts) as seen:
        await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers=match)
        assert seen.count("COMMIT") == 1
        await service.register()
        assert seen.count("COMMIT") == 2
        # But for this: whether the password is right counts against a limit before the new one is hashed.
        assert (await ada.client.post("/v1/users/me/password", json=change)).status_code == 204
        assert seen.count("COMMIT") == 4
        await admin.post(f"/v1/users/{ada.id}/disable")
    assert seen.count("COMMIT") == 5
    assert sum(statement.startswith("BEGIN") for statement in seen) == 5


async def test_a_page_costs_one_query_whatever_is_on_it(service: Service, parts: Parts) -> None:
    admin = service.admin()
    for count in (1, 4):
        for _ in range(count):
            person = await service.register()
            roles = {"roles": ["editor", "support"]}
            await admin.put(f"/v1/users/{person.id}/roles", json=roles, headers={"If-Match": person.etag})
        with statements(parts) as seen:
            page = await admin.get("/v1/users?limit=50")
            assert len(seen) == 1
            await admin.get(f"/v1/users/{person.id}/audit")
            assert len(seen) == 2
            await person.client.get("/v1/users/me")
            assert len(seen) == 3
    assert len(page.json()["items"]) == 5


async def test_no_statement_asks_for_every_column(service: Service, parts: Parts) -> None:
    with statements(parts) as seen:
        ada = await service.register(**{"Idempotency-Key": "one"})
        admin = service.admin()
        await admin.get("/v1/users?status=active&name=a")
        await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers={"If-Match": ada.etag})
        await admin.get(f"/v1/users/{ada.id}/audit")
        await service.verify(ada.email)
        await admin.delete(f"/v1/users/{ada.id}")
        await admin.post(f"/v1/users/{ada.id}/erase")
    assert len(seen) > 20
    assert not [statement for statement in seen if "*" in statement]
    inserts = [statement for statement in seen if statement.startswith("INSERT")]
    assert all("(" in statement.partition("VALUES")[0] for statement in inserts)
