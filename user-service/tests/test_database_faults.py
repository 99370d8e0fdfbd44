"""What people see while MySQL is killed, paused, slow, restarted or full: 503 in time, then service again."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from conftest import PASSWORD
from sqlalchemy import text
from system import MySQLServer, RunningService, Wire, begin_revocations, serving, until

from service_kit.testing import RedisServer, TestIssuer, redis_server
from user_service.database import single_engine
from user_service.migrations.__main__ import upgrade

pytestmark = pytest.mark.containers

# FULL=1 is the promise as it stands; the small variant shows the same in seconds.
REGISTRATIONS, KILLS = (1000, 5) if os.environ.get("FULL") else (60, 1)


@pytest.fixture(scope="module")
def mysql() -> Iterator[MySQLServer]:
    server = MySQLServer()
    try:
        asyncio.run(server.ready())
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        begin_revocations(server.url)
        yield server


@pytest.fixture(scope="module")
def database(mysql: MySQLServer) -> str:
    name = f"test_{uuid4().hex}"
    asyncio.run(mysql.ask(f"CREATE DATABASE {name}"))
    upgrade(mysql.url(name))
    return name


@pytest.fixture
async def service(
    mysql: MySQLServer, database: str, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> AsyncIterator[RunningService]:
    async with serving(mysql.url(database), redis.url, tmp_path, issuer) as running:
        yield running


async def register(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    body = {"email": f"{uuid4().hex}@example.com", "name": "Ada", "password": PASSWORD}
    return await client.post("/v1/users", json=body, headers=headers)


async def somebody(service: RunningService) -> httpx.AsyncClient:
    async with service.client() as client:
        response = await register(client)
    assert response.status_code == 201, response.text
    return service.client_of(response.json()["id"])


async def assert_refused_in_time(service: RunningService, me: httpx.AsyncClient) -> None:
    """Reads and writes are a problem with a code and the time to come again, within 3 s, also twenty at once."""
    began = time.monotonic()
    async with service.client() as client:
        reads = [me.get("/v1/users/me") for _ in range(20)]
        for response in await asyncio.gather(*reads, register(client, **{"Idempotency-Key": uuid4().hex})):
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert response.headers["Retry-After"]
    assert time.monotonic() - began <= 3
    async with service.client(internal=True) as inside:
        assert (await inside.get("/readyz")).status_code == 503
        assert (await inside.get("/healthz")).status_code == 200


async def assert_served_again(service: RunningService, me: httpx.AsyncClient) -> None:
    async def served() -> bool:
        return (await me.get("/v1/users/me")).status_code == 200

    await until(served, 5)
    many = await asyncio.gather(*(me.get("/v1/users/me") for _ in range(20)))
    assert {response.status_code for response in many} == {200}
    await service.ready(within=5)


async def test_killed_mysql_is_a_503_and_service_returns_with_it(
    service: RunningService, mysql: MySQLServer
) -> None:
    async with await somebody(service) as me:
        mysql.kill()
        await assert_refused_in_time(service, me)
        mysql.start()
        await mysql.ready()
        await assert_served_again(service, me)


async def test_paused_mysql_is_a_503_and_service_returns_with_it(
    service: RunningService, mysql: MySQLServer
) -> None:
    async with await somebody(service) as me:
        mysql.pause()
        try:
            await assert_refused_in_time(service, me)
            await assert_refused_in_time(service, me)
        finally:
            mysql.resume()
        await assert_served_again(service, me)


async def test_pooled_connections_that_were_killed_cost_nobody_an_error(
    service: RunningService, mysql: MySQLServer
) -> None:
    async with await somebody(service) as me:
        await asyncio.gather(*(me.get("/v1/users/me") for _ in range(20)))
        killed = await mysql.kill_connections()
        many = await asyncio.gather(*(me.get("/v1/users/me") for _ in range(20)))
    assert killed > 5
    assert [response.status_code for response in many] == [200] * 20


async def test_pooled_connections_that_the_server_gave_up_cost_nobody_an_error(
    mysql: MySQLServer, database: str, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    await mysql.ask("SET GLOBAL wait_timeout = 1")
    try:
        url = mysql.url(database)
        async with serving(url, redis.url, tmp_path, issuer) as service, await somebody(service) as me:
            for _ in range(2):
                many = await asyncio.gather(*(me.get("/v1/users/me") for _ in range(20)))
                assert [response.status_code for response in many] == [200] * 20
                await asyncio.sleep(1.5)
    finally:
        await mysql.ask("SET GLOBAL wait_timeout = 28800")


async def test_a_restart_of_mysql_under_load_is_answers_and_refusals_alone(
    service: RunningService, mysql: MySQLServer
) -> None:
    statuses: list[int] = []

    async def load(client: httpx.AsyncClient) -> None:
        while True:
            response = await client.get("/v1/users/me")
            statuses.append(response.status_code)
            assert response.status_code == 200 or response.json()["code"] == "database_unavailable"
            await asyncio.sleep(0.01)

    async with await somebody(service) as me:
        loads = [asyncio.create_task(load(me)) for _ in range(8)]
        await asyncio.to_thread(mysql.restart)
        await mysql.ready()
        await assert_served_again(service, me)
        for task in loads:
            task.cancel()
        ends = await asyncio.gather(*loads, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
    assert set(statuses) == {200, 503}


async def test_mysql_without_a_free_connection_is_a_503_until_it_has_one(
    mysql: MySQLServer, database: str, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    await mysql.ask("CREATE USER few IDENTIFIED BY 'few'")
    await mysql.ask(f"GRANT ALL ON {database}.* TO few")  # and not root's right to one connection more
    url = mysql.url(database).set(username="few", password="few")
    async with serving(url, redis.url, tmp_path, issuer) as service, await somebody(service) as me:
        async with mysql.full():
            await assert_refused_in_time(service, me)
        await assert_served_again(service, me)


async def test_slow_mysql_is_slow_answers_and_too_slow_mysql_is_a_503(
    mysql: MySQLServer, database: str, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    async with Wire(mysql.port).running() as wire:
        url = mysql.url(database, wire.port)
        async with serving(url, redis.url, tmp_path, issuer) as service, await somebody(service) as me:
            wire.delay = 0.1
            assert (await me.get("/v1/users/me")).status_code == 200
            async with service.client() as client:
                assert (await register(client)).status_code == 201
            wire.delay = 4.0
            await assert_refused_in_time(service, me)
            wire.delay = 0.0
            await assert_served_again(service, me)


async def test_a_commit_whose_answer_is_lost_makes_exactly_one_person(
    mysql: MySQLServer, database: str, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    async with Wire(mysql.port).running() as wire:
        url = mysql.url(database, wire.port)
        async with serving(url, redis.url, tmp_path, issuer) as service, service.client() as client:
            body = {"email": f"{uuid4().hex}@example.com", "name": "Ada", "password": PASSWORD}
            key = {"Idempotency-Key": uuid4().hex}
            wire.lose_commits = True
            lost = await client.post("/v1/users", json=body, headers=key)
            wire.lose_commits = False
            assert (lost.status_code, lost.json()["code"]) == (503, "database_unavailable")
            again = await client.post("/v1/users", json=body, headers=key)
            assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (201, "true")
        assert wire.lost == 1
    assert await created_events(mysql, database, [again.json()["id"]]) == {again.json()["id"]: 1}


async def test_mysql_killed_under_keyed_registrations_leaves_no_duplicate(
    service: RunningService, mysql: MySQLServer, database: str
) -> None:
    people: dict[str, str] = {}
    left = iter(range(REGISTRATIONS))

    async def register_until_it_is_so(client: httpx.AsyncClient) -> None:
        for _ in left:
            body = {"email": f"{uuid4().hex}@example.com", "name": "Ada", "password": PASSWORD}
            key = {"Idempotency-Key": uuid4().hex}
            while (response := await client.post("/v1/users", json=body, headers=key)).status_code != 201:
                assert response.status_code in (409, 503), response.text
                assert response.json()["code"] != "email_taken"
                await asyncio.sleep(0.1)
            people[body["email"]] = response.json()["id"]

    async with service.client() as client:
        registering = [asyncio.create_task(register_until_it_is_so(client)) for _ in range(12)]
        for kill in range(1, KILLS + 1):
            enough = REGISTRATIONS * kill / (KILLS + 1)
            await until(partial(lambda enough: len(people) > enough, enough), 120)
            mysql.kill()
            mysql.start()
            await mysql.ready()
        await asyncio.gather(*registering)
    assert len(people) == len(set(people.values())) == REGISTRATIONS
    assert await created_events(mysql, database, people.values()) == dict.fromkeys(people.values(), 1)


async def created_events(mysql: MySQLServer, database: str, ids: Iterable[str]) -> dict[str, int]:
    """How often the audit says of each that they were created; only those who are in the table."""
    engine = single_engine(mysql.url(database))
    query = text(
        "SELECT BIN_TO_UUID(users.id), COUNT(*) FROM users JOIN audit ON audit.subject_id = users.id "
        "WHERE audit.action = 'user.created' GROUP BY users.id"
    )
    async with engine.connect() as connection:
        counted = {row[0]: row[1] for row in await connection.execute(query)}
    await engine.dispose()
    return {person: counted.get(person, 0) for person in ids}


async def test_three_thousand_people_who_hang_up_cost_nobody_else_an_answer(
    service: RunningService, mysql: MySQLServer
) -> None:
    async with await somebody(service) as me:
        authorization = me.headers["Authorization"]
        requests = {
            "GET": f"GET /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n",
            "PATCH": (
                f"PATCH /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
                'If-Match: "0"\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"name":"Hopper"}'
            ),
        }

        async def hang_up(number: int) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", service.public)
            writer.write(requests["PATCH" if number % 3 == 0 else "GET"].encode())
            await asyncio.sleep(number % 7 / 1000)
            writer.transport.abort()

        for start in range(0, 3000, 50):
            await asyncio.gather(*(hang_up(number) for number in range(start, start + 50)))
        await asyncio.sleep(1)
        hundred = await asyncio.gather(*(me.get("/v1/users/me") for _ in range(100)))
        assert [response.status_code for response in hundred] == [200] * 100
        assert len({response.json()["id"] for response in hundred}) == 1
        async with service.client(internal=True) as inside:
            assert "\ndatabase_connections_in_use 0.0\n" in (await inside.get("/metrics")).text
