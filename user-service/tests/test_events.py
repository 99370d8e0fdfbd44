"""Events: told in order, at least once, by whichever relay works."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import Service
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit import background, testing
from service_kit.authenticator import Authenticator
from service_kit.testing import RedisServer, TestIssuer
from user_service.config import Settings
from user_service.events import relay, repository, stream
from user_service.events.models import Event
from user_service.events.relay import Relay
from user_service.events.stream import KEY, Stream
from user_service.main import Parts, create_app, make_parts


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with testing.redis_server(appendonly=True) as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url, decode_responses=True, socket_timeout=2)
    yield client
    await client.aclose()


@asynccontextmanager
async def relaying(
    database_url: str,
    redis: Redis,
    count: int = 1,
    committed: asyncio.Event | None = None,
    replicas: int = 0,
) -> AsyncIterator[None]:
    committed = committed or asyncio.Event()
    relays = [Relay(make_url(database_url), Stream(redis, replicas), committed) for _ in range(count)]
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


async def waiting(parts: Parts) -> list[Event]:
    """What is still in the outbox."""
    return await parts.database.read(lambda connection: repository.oldest(connection, 100))


async def emptied(parts: Parts) -> None:
    async with asyncio.timeout(10):
        while await waiting(parts):
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
        await emptied(parts)


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


@pytest.fixture
async def replica(redis_server: RedisServer) -> AsyncIterator[RedisServer]:
    """A replica of `redis_server` that is not connected to it yet."""
    with testing.redis_server(appendonly=True) as server:
        yield server


async def ask(server: RedisServer, *command: str) -> str:
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        call: Any = redis.execute_command  # its types do not know it
        return str(await call(*command))


async def follow(replica: RedisServer, primary: RedisServer) -> None:
    await ask(primary, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
    await ask(replica, "REPLICAOF", "127.0.0.1", str(primary.port))
    async with asyncio.timeout(30), Redis.from_url(primary.url) as redis:
        call: Any = redis.execute_command
        while (await call("WAITAOF", 1, 1, 100))[1] < 1:
            pass


async def test_a_failover_loses_no_event_that_the_replica_had_not_written(
    service: Service, parts: Parts, database_url: str, redis_server: RedisServer, replica: RedisServer
) -> None:
    await follow(replica, redis_server)
    ada = await service.register()
    async with Redis.from_url(redis_server.url, decode_responses=True, socket_timeout=2) as primary:
        replica.pause()
        async with relaying(database_url, primary, replicas=1):
            assert [event["sub"] for event in await told(primary, 1)] == [str(ada.id)]
            redis_server.kill()  # before the replica had the event
    assert [event.user_id for event in await waiting(parts)] == [ada.id]
    replica.kill()  # not resumed: the event may be waiting in its socket
    replica.start()
    with testing.redis_server(appendonly=True) as another:
        await follow(another, replica)
        async with Redis.from_url(replica.url, decode_responses=True, socket_timeout=2) as promoted:
            assert not await promoted.exists(KEY)
            async with relaying(database_url, promoted, replicas=1):
                assert [event["sub"] for event in await told(promoted, 1)] == [str(ada.id)]
                await emptied(parts)


async def test_without_its_replica_nothing_is_sent_until_there_is_one(
    service: Service,
    parts: Parts,
    database_url: str,
    redis: Redis,
    redis_server: RedisServer,
    replica: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "AGAIN_SECONDS", 0.05)
    await service.register()
    async with relaying(database_url, redis, replicas=1):
        await refused_twice(redis)
        assert await redis.xlen(KEY) == 0
        await follow(replica, redis_server)
        await told(redis, 1)
        await emptied(parts)


async def test_a_redis_that_keeps_nothing_on_disk_is_sent_nothing(
    service: Service, parts: Parts, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "AGAIN_SECONDS", 0.05)
    await service.register()
    with testing.redis_server() as forgetful:
        async with (
            Redis.from_url(forgetful.url, decode_responses=True) as redis,
            relaying(database_url, redis),
        ):
            await refused_twice(redis)
            assert await redis.xlen(KEY) == 0
            assert len(await waiting(parts)) == 1
            await redis.config_set("appendonly", "yes")
            await told(redis, 1)
            await emptied(parts)


async def refused_twice(redis: Redis) -> None:
    """Wait until the relay has asked for durability twice, in vain."""
    async with asyncio.timeout(10):
        while (await redis.info("commandstats")).get("cmdstat_waitaof", {"calls": 0})["calls"] < 2:
            await asyncio.sleep(0.05)


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


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_a_start_without_the_stores_password_is_not_ready(
    settings: Settings, issuer: TestIssuer, authenticator: Authenticator, password: str | None
) -> None:
    acl = ["user default off", "user users on >right ~users +@all"]
    with testing.redis_server(appendonly=True, acl=acl) as server:
        started: list[Parts] = []

        async def reasons(password: str | None) -> dict[str, str]:
            secret = password and SecretStr(password)
            told = {"events_redis_url": server.url, "events_redis_password": secret}
            made = settings.model_copy(update=told)
            parts = make_parts(made)
            client = Service(create_app(made, parts, authenticator), issuer).client(port=9000)
            response = await client.get("/readyz")
            started.append(parts)
            return dict(response.json()["reasons"])

        refused = {"events": "the events' Redis refuses the user or the password"}
        assert (await reasons(password)).items() >= refused.items()
        assert "events" not in await reasons("right")
    # Once admitted, events wait in the outbox whatever becomes of the server.
    admitted = started[1]
    assert await admitted.events.unready() is None
    for parts in started:
        await parts.close()


async def test_a_start_while_the_store_is_down_or_stands_still_is_ready(
    redis: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ADMISSION_SECONDS", 0.05)
    redis_server.pause()
    assert await Stream(redis).unready() is None
    redis_server.resume()
    redis_server.stop()
    assert await Stream(redis).unready() is None
