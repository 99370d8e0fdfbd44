"""Events survive every death: of Redis, of MySQL, of the relay, at any point of its work."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from conftest import PASSWORD
from redis.asyncio import Redis
from system import MySQLServer, RunningService, begin_revocations, serving, until

from service_kit.testing import RedisServer, TestIssuer, redis_server
from user_service.events.stream import KEY
from user_service.migrations.__main__ import upgrade

pytestmark = pytest.mark.containers

PEOPLE = 5


@pytest.fixture(scope="module")
def mysql() -> Iterator[MySQLServer]:
    server = MySQLServer()
    try:
        asyncio.run(server.ready())
        yield server
    finally:
        server.remove()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(appendonly=True) as server:
        begin_revocations(server.url)
        yield server


@dataclass
class EventSystem:
    """Two services with a relay each, an administrator who changes people, and what was answered to them."""

    services: list[RunningService]
    mysql: MySQLServer
    database: str
    redis: RedisServer
    issuer: TestIssuer
    done: dict[str, list[int]] = field(default_factory=dict)

    async def register(self) -> None:
        async with self.services[0].client() as client:
            for _ in range(PEOPLE):
                body = {"email": f"{uuid4().hex}@example.com", "name": "Ada", "password": PASSWORD}
                response = await client.post("/v1/users", json=body)
                assert response.status_code == 201, response.text
                self.done[response.json()["id"]] = [1]

    async def change(self, person: str) -> None:
        """Disable and enable them, again and again, through whichever service answers."""
        clients = [service.client(self.issuer.token(roles=["admin"])) for service in self.services]
        turn = 0
        try:
            while True:
                for act in ("disable", "enable"):
                    while not await self._acted(clients[turn % len(clients)], person, act):
                        turn += 1
                        await asyncio.sleep(0.05)
        finally:
            for client in clients:
                await client.aclose()

    async def _acted(self, client: httpx.AsyncClient, person: str, act: str) -> bool:
        try:
            response = await client.post(f"/v1/users/{person}/{act}", timeout=6)
        except httpx.TransportError:
            return False
        if response.status_code == 200:
            self.done[person].append(response.json()["version"])
        return response.status_code == 200

    async def told(self) -> list[dict[str, str]]:
        client = Redis.from_url(self.redis.url, decode_responses=True, socket_timeout=3)
        entries: Any = await client.xrange(KEY)
        await client.aclose()
        return [fields for _, fields in entries]

    def holder(self) -> RunningService:
        """The service whose relay took the lock last."""
        return max(self.services, key=lambda service: service.when("event relay holds the lock"))


@pytest.fixture
async def system(
    mysql: MySQLServer, redis: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> AsyncIterator[EventSystem]:
    name = f"test_{uuid4().hex}"
    await mysql.ask(f"CREATE DATABASE {name}")
    await asyncio.to_thread(upgrade, mysql.url(name))
    async with (
        serving(mysql.url(name), redis.url, tmp_path, issuer) as one,
        serving(mysql.url(name), redis.url, tmp_path, issuer) as other,
    ):
        yield EventSystem([one, other], mysql, name, redis, issuer)


async def relay_dies(system: EventSystem) -> None:
    """SIGKILL; the other relay goes on, then this service comes back."""
    holder = system.holder()
    holder.kill()
    await asyncio.sleep(2)
    holder.start()


async def relay_stands_still(system: EventSystem) -> None:
    """Stopped for longer than its lock lasts: awake again it repeats what the other has told meanwhile."""
    holder = system.holder()
    holder.send(signal.SIGSTOP)
    await asyncio.sleep(7)
    holder.send(signal.SIGCONT)


async def lock_is_lost(system: EventSystem) -> None:
    for _ in range(3):
        await system.mysql.kill_connections()
        await asyncio.sleep(0.5)


async def redis_dies(system: EventSystem) -> None:
    system.redis.kill()
    await asyncio.sleep(0.5)
    system.redis.start()


async def redis_stands_still(system: EventSystem) -> None:
    """Longer than the relay waits: whether its batch arrived it cannot know, so it sends it again."""
    system.redis.pause()
    await asyncio.sleep(3)
    system.redis.resume()


async def mysql_dies(system: EventSystem) -> None:
    await asyncio.to_thread(system.mysql.kill)
    await asyncio.to_thread(system.mysql.start)
    await system.mysql.ready()


@pytest.mark.parametrize(
    "fault", [relay_dies, relay_stands_still, lock_is_lost, redis_dies, redis_stands_still, mysql_dies]
)
async def test_nothing_is_lost_and_nothing_out_of_order(
    system: EventSystem, fault: Callable[[EventSystem], Awaitable[None]]
) -> None:
    await system.register()
    changing = [asyncio.create_task(system.change(person)) for person in system.done]
    await until(lambda: all(len(versions) > 1 for versions in system.done.values()), 60)
    await fault(system)
    before = {person: len(versions) for person, versions in system.done.items()}
    await until(lambda: all(len(system.done[person]) > count + 1 for person, count in before.items()), 60)
    for task in changing:
        task.cancel()
    await asyncio.gather(*changing, return_exceptions=True)

    async def all_told() -> bool:
        left: int = await system.mysql.scalar(system.database, "SELECT COUNT(*) FROM outbox")
        return left == 0

    await until(all_told, 20)
    events = await system.told()
    for person, versions in system.done.items():
        told = [event for event in events if event["sub"] == person]
        firsts = list(dict.fromkeys(int(event["id"]) for event in told))
        assert firsts == sorted(firsts), "a later event came before an earlier one"
        by_id = {int(event["id"]): event["type"] for event in told}
        assert len({(event["id"], event["type"], event["at"]) for event in told}) == len(by_id)
        assert len(by_id) >= max(versions) > 3, "an event of an acknowledged change is missing"
        turns = ["user.disabled", "user.enabled"] * len(firsts)
        assert [by_id[one] for one in firsts] == ["user.created", *turns][: len(firsts)]


async def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


async def test_what_waits_and_how_long_the_stream_is_are_metrics(system: EventSystem) -> None:
    await system.register()
    holder = system.holder()
    async with holder.client(internal=True) as client:

        async def told() -> bool:
            return await metric(client, "user_events_stream_length") >= PEOPLE

        await until(told, 10)
        system.redis.pause()
        async with holder.client(system.issuer.token(roles=["admin"])) as admin:
            for person in system.done:
                await admin.post(f"/v1/users/{person}/disable")

        async def late() -> bool:
            return await metric(client, "user_events_lag_seconds") > 1

        await until(late, 10)
        assert await metric(client, "user_events_waiting") >= PEOPLE
        system.redis.resume()

        async def nothing_waits() -> bool:
            return await metric(client, "user_events_waiting") == 0

        await until(nothing_waits, 10)
        assert await metric(client, "user_events_lag_seconds") == 0
