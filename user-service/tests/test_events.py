"""Events: told in order, at least once, by whichever relay works."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import Service
from redis.asyncio import Redis
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit import background
from service_kit.testing import RedisServer
from user_service.events import relay, repository
from user_service.events.relay import Relay
from user_service.events.stream import KEY, Stream
from user_service.main import Parts


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url, decode_responses=True, socket_timeout=2)
    yield client
    await client.aclose()


@asynccontextmanager
async def relaying(
    database_url: str, redis: Redis, count: int = 1, committed: asyncio.Event | None = None
) -> AsyncIterator[None]:
    committed = committed or asyncio.Event()
    relays = [Relay(make_url(database_url), Stream(redis), committed) for _ in range(count)]
    async with background.running(*(relay.run for relay in relays)):
        yield


async def told(redis: Redis, count: int) -> list[dict[str, str]]:
    """The stream's entries once there are `count`, repeats dropped as a consumer drops them."""
    async with asyncio.timeout(10):
        while True:
            seen, newest = [], 0
            entries: Any = await redis.xrange(KEY)
            for _, fields in entries:
                if int(fields["id"]) > newest:
                    newest = int(fields["id"])
                    seen.append(fields)
            if len(seen) >= count:
                return seen
            await asyncio.sleep(0.05)


async def test_what_happens_to_a_person_is_told_in_order(
    service: Service, database_url: str, redis: Redis
) -> None:
    ada = await service.register()
    admin = service.admin()
    await admin.post(f"/v1/users/{ada.id}/disable")
    await admin.post(f"/v1/users/{ada.id}/enable")
    async with relaying(database_url, redis):
        events = await told(redis, 3)
    assert [event["type"] for event in events] == ["user.created", "user.disabled", "user.enabled"]
    assert [(event["cv"], event["sessions_cv"]) for event in events] == [("1", "1"), ("2", "2"), ("2", "2")]
    assert {event["sub"] for event in events} == {str(ada.id)}


async def test_a_commit_wakes_the_relay(
    service: Service, parts: Parts, database_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LOOK_SECONDS", 60.0)
    async with relaying(database_url, redis, committed=parts.database.committed):
        for number in range(1, 4):
            await service.register()
            await told(redis, number)


async def test_told_events_leave_the_outbox(
    service: Service, parts: Parts, database_url: str, redis: Redis
) -> None:
    await service.register()
    async with relaying(database_url, redis):
        await told(redis, 1)
        async with asyncio.timeout(5):
            while await parts.database.read(lambda connection: repository.oldest(connection, 1)):
                await asyncio.sleep(0.05)


async def test_nothing_is_lost_while_redis_is_away(
    service: Service, database_url: str, redis: Redis, redis_server: RedisServer
) -> None:
    redis_server.stop()
    async with relaying(database_url, redis):
        people = [await service.register() for _ in range(3)]
        await asyncio.sleep(0.2)
        redis_server.start()
        assert {event["sub"] for event in await told(redis, 3)} == {str(one.id) for one in people}


async def test_two_relays_tell_everything_in_order(service: Service, database_url: str, redis: Redis) -> None:
    async with relaying(database_url, redis, count=2):
        ada = await service.register()
        admin = service.admin()
        for _ in range(5):
            await admin.post(f"/v1/users/{ada.id}/disable")
            await admin.post(f"/v1/users/{ada.id}/enable")
        events = await told(redis, 11)
    assert [event["cv"] for event in events if event["type"] == "user.disabled"] == ["2", "3", "4", "5", "6"]


async def test_an_event_that_is_told_twice_carries_the_same_id(
    service: Service, database_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay dies after it has told an event and before it has removed it."""
    remove, deaths = repository.remove, 0

    async def die_once(connection: AsyncConnection, ids: Sequence[int]) -> None:
        nonlocal deaths
        deaths += 1
        if deaths == 1:
            raise ConnectionResetError
        await remove(connection, ids)

    monkeypatch.setattr(repository, "remove", die_once)
    await service.register()
    async with relaying(database_url, redis):
        async with asyncio.timeout(10):
            while deaths < 2:
                await asyncio.sleep(0.05)
        entries: Any = await redis.xrange(KEY)
    first, second = (fields for _, fields in entries)
    assert first == second
    assert first["id"] == "1"


async def test_the_stream_keeps_what_a_group_has_not_acknowledged(redis: Redis) -> None:
    ids: list[Any] = [await redis.xadd(KEY, {"id": str(number)}) for number in range(300)]
    stream = Stream(redis)
    await stream.trim()
    assert await stream.length() == 300
    await redis.xgroup_create(KEY, "auth-service", "0")
    await redis.xreadgroup("auth-service", "one", {KEY: ">"}, count=250)
    await redis.xack(KEY, "auth-service", *ids[:220])
    await stream.trim()
    kept: Any = await redis.xrange(KEY, count=1)
    first = kept[0][0]
    assert ids[0] < first <= ids[220]
