"""user-service's events, consumed at least once: none is lost with a replica, none counts twice, none stops the next."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from conftest import Service, make_settings, started
from people import People

from auth_service.users.events import ABANDONED_MS, CONSUMER, GROUP, STREAM

EMAIL = "ada@example.com"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await holds():
            await asyncio.sleep(0.01)


async def until_ended(service: Service, grant: dict[str, Any]) -> None:
    """By the event alone: a refresh would ask user-service."""
    session = service.session_of(grant["access_token"])

    async def is_gone() -> bool:
        return await service.parts.sessions.get(session) is None

    await until(is_gone)
    await service.until_refused(grant["access_token"], "credentials_changed")


async def until_group(redis: Any) -> None:
    async def is_there() -> bool:
        return bool(await redis.exists(STREAM))

    await until(is_there)


async def until_handled(redis: Any) -> None:
    async def has_nothing_left() -> bool:
        [group] = await redis.xinfo_groups(STREAM)
        return not group["pending"] and not group["lag"]

    await until(has_nothing_left)


async def test_what_happened_while_every_replica_was_away_ends_sessions_once_one_is_back(
    redis: Any, redis_url: str, people: People, tmp_path: Path
) -> None:
    settings = make_settings(redis_url, people.url, tmp_path)
    async with started(settings) as service:
        grant = await service.sign_in()
    await redis.xadd(STREAM, people.change(EMAIL))
    async with started(settings) as service:
        await until_ended(service, grant)


async def test_what_a_replica_read_before_it_died_is_done_by_another(
    redis: Any, redis_url: str, people: People, tmp_path: Path
) -> None:
    settings = make_settings(redis_url, people.url, tmp_path)
    async with started(settings) as service:
        grant = await service.sign_in()
        await until_group(redis)
    entry = await redis.xadd(STREAM, people.change(EMAIL))
    assert await redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"})  # and there it dies
    await redis.xclaim(STREAM, GROUP, CONSUMER, 0, [entry], idle=ABANDONED_MS + 1)
    async with started(settings) as service:
        await until_ended(service, grant)
        await until_handled(redis)


async def test_an_event_that_comes_again_or_late_ends_nothing_that_began_after_it(
    service: Service, people: People, redis: Any
) -> None:
    grant = await service.sign_in()
    first, second = people.change(EMAIL), people.change(EMAIL)
    await redis.xadd(STREAM, second)
    await until_ended(service, grant)
    after = await service.sign_in()
    for again in (second, first, second):
        await redis.xadd(STREAM, again)
    await until_handled(redis)
    async with service.client(after["access_token"]) as client:
        assert (await client.get("/auth/verify")).status_code == 204
    assert (await service.refresh(after["refresh_token"])).status_code == 200


async def test_an_event_that_nobody_understands_stops_none_behind_it(
    service: Service, people: People, redis: Any
) -> None:
    grant = await service.sign_in()
    good = people.change(EMAIL)
    for broken in (
        {"type": "user.credentials_changed"},
        good | {"cv": "many"},
        good | {"sessions_cv": ""},
        {name: value for name, value in good.items() if name != "type"},
        {"": ""},
    ):
        await redis.xadd(STREAM, broken)
    await until_handled(redis)
    assert await service.parts.sessions.get(service.session_of(grant["access_token"])) is not None
    await redis.xadd(STREAM, good)
    await until_ended(service, grant)


async def test_a_stream_that_was_lost_is_read_again_from_its_beginning(
    service: Service, people: People, redis: Any
) -> None:
    grant = await service.sign_in()
    await until_group(redis)
    # In one act, or the group would be there again before the event.
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(STREAM)
        pipe.xadd(STREAM, people.change(EMAIL))
        await pipe.execute()
    await until_ended(service, grant)
