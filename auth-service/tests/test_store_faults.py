"""What happens to Redis happens here to a real one: emptied, restored, paused, gone, its clock set back."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from conftest import Service, make_settings, started
from people import People
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionLost
from test_people_down import timed
from test_rotation import UNLIMITED

from auth_service.store import Store, StoreUnavailable, connect
from service_kit import testing
from service_kit.dependencies import VerificationUnavailable


@pytest.fixture
def server() -> Iterator[testing.RedisServer]:
    with testing.redis_server(appendonly=True) as own:
        yield own


@pytest.fixture
async def own_service(server: testing.RedisServer, people: People, tmp_path: Path) -> AsyncIterator[Service]:
    async with started(make_settings(server.url, people.url, tmp_path)) as running:
        yield running


async def until_status(service: Service, token: str, *statuses: int) -> Any:
    async with asyncio.timeout(8), service.client(token) as client:
        while (response := await client.get("/auth/verify")).status_code not in statuses:
            await asyncio.sleep(0.02)
    return response


async def until_signed_in(service: Service) -> None:
    form = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}
    async with asyncio.timeout(8):
        while (await service.token(**form)).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.quiet
async def test_an_emptied_store_begins_a_new_epoch_and_older_tokens_fail_by_their_key(
    own_service: Service, server: testing.RedisServer
) -> None:
    grant = await own_service.sign_in()
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        epoch = await redis.get("auth:epoch")
        await redis.flushall()
        began = time.monotonic()
        response = await until_status(own_service, grant["access_token"], 401)
        assert response.json()["code"] == "unknown_key"
        assert time.monotonic() - began < 2.5
        assert await redis.get("auth:epoch") not in (None, epoch)
    await until_signed_in(own_service)


async def test_a_session_ended_after_the_copy_that_was_restored_stays_refused(
    own_service: Service, server: testing.RedisServer, tmp_path: Path
) -> None:
    grant = await own_service.sign_in()
    await own_service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await own_service.until_refused(grant["access_token"], "session_revoked")
    other = await own_service.sign_in()
    server.stop()
    shutil.copytree(server.folder, tmp_path / "older")
    server.start()
    await until_status(own_service, other["access_token"], 204)
    await own_service.public.post("/auth/revoke", data={"token": other["refresh_token"]})
    await own_service.until_refused(other["access_token"], "session_revoked")
    server.stop()
    shutil.copytree(tmp_path / "older", server.folder, dirs_exist_ok=True)
    server.start()
    await until_signed_in(own_service)
    for token in (grant["access_token"], other["access_token"]):
        response = await until_status(own_service, token, 401)
        assert response.json()["code"] == "session_revoked"


async def test_a_signed_out_session_is_ended_after_a_restart_too(
    own_service: Service, server: testing.RedisServer
) -> None:
    grant = await own_service.sign_in()
    await own_service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    server.restart()
    await until_signed_in(own_service)
    assert (await own_service.refresh(grant["refresh_token"])).json()["code"] == "session_ended"


@pytest.mark.parametrize(("fault", "bound"), [("stop", 1.0), ("pause", 2.5)])
async def test_without_the_store_everything_is_503_in_time_and_comes_back_by_itself(
    own_service: Service, server: testing.RedisServer, fault: str, bound: float
) -> None:
    grant = await own_service.sign_in()
    getattr(server, fault)()
    for ask in (
        own_service.refresh(grant["refresh_token"]),
        own_service.public.post("/auth/revoke", data={"token": grant["refresh_token"]}),
    ):
        began = time.monotonic()
        response = await ask
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
        assert "retry-after" in response.headers
        assert time.monotonic() - began < bound
    assert (await own_service.public.get("/.well-known/jwks.json")).status_code == 200
    server.start() if fault == "stop" else server.resume()
    began = time.monotonic()
    await until_signed_in(own_service)
    assert time.monotonic() - began < 5
    assert (await own_service.refresh(grant["refresh_token"])).status_code in (200, 400)


@pytest.mark.parametrize("fault", ["stop", "pause"])
async def test_two_hundred_at_once_without_the_store_are_each_refused_in_time_and_it_comes_back_by_itself(
    server: testing.RedisServer, people: People, tmp_path: Path, fault: str
) -> None:
    for number in range(100):
        people.add(f"person-{number}@example.com")
    patient = UNLIMITED | {"users_concurrency": 100, "users_timeout_seconds": 10}
    async with started(make_settings(server.url, people.url, tmp_path, **patient)) as service:
        grant = await service.sign_in()

        async def crowd() -> list[tuple[httpx.Response, float]]:
            form = {"grant_type": "password", "password": People.PASSWORD}
            sign_ins = [
                service.token(username=f"person-{number}@example.com", **form) for number in range(100)
            ]
            refreshes = [service.refresh(grant["refresh_token"]) for _ in range(100)]
            return await asyncio.gather(*map(timed, sign_ins + refreshes))

        calm = max(seconds for _, seconds in await crowd())
        getattr(server, fault)()
        responses = await crowd()
        assert {response.status_code for response, _ in responses} == {503}
        # In a process that is busy enough, a hundred connections to user-service take too long as well.
        codes = {response.json()["code"] for response, _ in responses}
        assert "store_unavailable" in codes
        assert codes <= {"store_unavailable", "users_unavailable"}
        assert all(int(response.headers["retry-after"]) >= 1 for response, _ in responses)
        # Twice: a busy machine is not equally busy all the time.
        assert max(seconds for _, seconds in responses) < 2.5 + 2 * calm
        server.start() if fault == "stop" else server.resume()
        await until_signed_in(service)
        assert (await service.refresh(grant["refresh_token"])).status_code == 200


async def test_starting_before_the_store_is_there_ends_in_readiness(people: People, tmp_path: Path) -> None:
    with testing.redis_server(appendonly=True) as server:
        server.stop()

        async def start_later() -> None:
            await asyncio.sleep(0.5)
            server.start()

        later = asyncio.create_task(start_later())
        async with started(make_settings(server.url, people.url, tmp_path)) as service:
            await service.sign_in()
        await later


async def test_cut_connections_are_replaced_without_an_error(service: Service, redis: Any) -> None:
    grant = await service.sign_in()
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    responses = await asyncio.gather(*(service.refresh(grant["refresh_token"]) for _ in range(20)))
    assert {response.status_code for response in responses} == {200}


async def test_a_clock_that_stepped_back_shortens_no_revocation(service: Service, redis: Any) -> None:
    grant = await service.sign_in()
    ahead = int(time.time() * 1000) + 3_600_000  # the stream's last id, before Redis's clock was set back
    await redis.xadd("auth:revocations", {"kind": "start", "until": "0"}, id=f"{ahead}-0")
    await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await service.until_refused(grant["access_token"], "session_revoked")
    [(entry, fields)] = await redis.xrange("auth:revocations", f"({ahead}-0")
    assert entry == f"{ahead}-1"
    assert int(fields["until"]) >= time.time() + 300
    for _ in range(3):  # writing more trims nothing that still matters
        other = await service.sign_in()
        await service.public.post("/auth/revoke", data={"token": other["refresh_token"]})
    assert entry in {each for each, _ in await redis.xrange("auth:revocations")}


async def test_a_successor_made_in_the_future_is_handed_out_again(service: Service, redis: Any) -> None:
    first = (await service.sign_in())["refresh_token"]
    second = (await service.refresh(first)).json()["refresh_token"]
    await redis.hincrby(f"auth:session:{first.split('.')[0]}", "made", 3_600_000)
    assert (await service.refresh(first)).json()["refresh_token"] == second


async def test_what_no_longer_matters_is_trimmed(service: Service, redis: Any) -> None:
    for number in range(150):
        await redis.xadd("auth:revocations", {"kind": "session", "until": "1", "sid": f"old-{number}"})
    for _ in range(3):
        grant = await service.sign_in()
        await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    kept = [fields["sid"] for _, fields in await redis.xrange("auth:revocations")]
    assert not any(sid.startswith("old-") for sid in kept)
    assert len(kept) == 3


async def test_with_replicas_a_sign_out_that_none_of_them_has_is_not_acknowledged(
    service: Service, redis_url: str, people: People, tmp_path: Path
) -> None:
    grant = await service.sign_in()
    settings = make_settings(redis_url, people.url, tmp_path, redis_replicas=1)
    async with started(settings, ready=False) as careful:
        response = await careful.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")


async def test_an_old_primary_that_refuses_writes_is_left_behind(
    service: Service, redis: Any, redis_url: str
) -> None:
    store = Store(connect(redis_url, "auth", None, timeout=1))
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable):
            async with store.connection() as client:
                await client.set("auth:test", "1")
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
    async with store.connection() as client:
        await client.set("auth:test", "1")
    await store.close()


async def test_a_process_too_busy_to_close_a_connection_in_time_goes_on(
    service: Service, redis_url: str
) -> None:
    """redis-py gives closing as long as connecting: here, no time at all."""
    store = Store(connect(redis_url, "auth", None, timeout=1))
    async with store.connection() as client:
        await client.ping()
        (connection,) = client.connection_pool._available_connections
    connection.socket_connect_timeout = 0
    await connection.disconnect()
    connection.socket_connect_timeout = 1
    async with store.connection() as client:
        assert await client.ping()
    await store.close()


@pytest.mark.parametrize("moment", [0, 0.05])
def test_a_connection_that_was_reset_a_moment_ago_is_replaced(redis_url: str, moment: float) -> None:
    """uvloop first swallows what is written to it; later it says a RuntimeError."""

    async def ping(connection: Any) -> None:
        await connection.send_command("PING")
        await connection.read_response()

    async def ask() -> None:
        store = Store(connect(redis_url, "auth", None, timeout=1))
        async with store.connection() as client:
            connection = await client.connection_pool.get_connection()
            connection._writer.transport.abort()
            await asyncio.sleep(moment)
            with pytest.raises(ConnectionLost):
                await ping(connection)
            await client.connection_pool.release(connection)
            assert await client.ping()
        await store.close()

    uvloop.run(ask())


async def test_what_reads_sessions_without_writing_says_nothing_of_a_server_that_is_not_proved(
    server: testing.RedisServer, people: People, tmp_path: Path
) -> None:
    """Here it answers and no replica follows it, as where a failover left it behind."""
    settings = make_settings(server.url, people.url, tmp_path)
    async with started(settings) as service:
        token = (await service.sign_in())["access_token"]
    settings = make_settings(server.url, people.url, tmp_path, redis_replicas=1)
    async with started(settings, ready=False) as careful:
        with pytest.raises(VerificationUnavailable):
            await careful.parts.introspection.caller(token)
        async with careful.client(token) as client:
            for path in ("/auth/sessions", "/auth/verify"):
                assert (await client.get(path)).json()["code"] == "revocations_unproven"


async def test_keys_are_told_without_the_store_for_less_long_than_a_revoked_one_is_in_the_stream(
    own_service: Service, server: testing.RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that is cut off may have missed it, and a verifier that starts later reads nothing of it."""
    keys = own_service.parts.keys
    server.stop()
    assert (await own_service.public.get("/.well-known/jwks.json")).status_code == 200
    monkeypatch.setattr(keys, "_read_at", keys._read_at - keys._retention / 1000)
    response = await own_service.public.get("/.well-known/jwks.json")
    assert (response.status_code, response.json()["code"]) == (503, "signing_keys_unavailable")
    server.start()
    await until_signed_in(own_service)
    assert (await own_service.public.get("/.well-known/jwks.json")).status_code == 200
