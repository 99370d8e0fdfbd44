"""Redis with a replica: the replica is promoted, and nobody cuts the connections to the former primary.

Real servers behind one name, as a Service or HAProxy gives it: new connections reach whoever is primary now, open
ones stay where they are.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Service, make_settings, started
from people import People
from redis.asyncio import Redis
from test_rotation import verifying

from auth_service.config import Settings
from auth_service.revocations.service import Revocations
from auth_service.store import Store, StoreUnavailable, connect
from service_kit import testing
from service_kit.tokens import TokenRefused

SOON = 10  # seconds: connections are renewed every five
REPLICATED = (
    *("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-ping-replica-period", "1"),
    *("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"),
)


class Name:
    """What REDIS_URL names: a port that leads to whichever server is primary when a connection is made."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.url = ""
        self._under_way: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield
        finally:
            server.close()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        self._under_way.add(this)
        this.add_done_callback(self._under_way.discard)
        with suppress(OSError):
            onward = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Servers:
    """A primary and two replicas of it, until one of them is promoted."""

    def __init__(self, primary: testing.RedisServer, *replicas: testing.RedisServer) -> None:
        self.primary = primary
        self.replicas = replicas

    async def follow(self, primary: testing.RedisServer, *replicas: testing.RedisServer) -> None:
        for each in replicas:
            await ask(each, "REPLICAOF", "127.0.0.1", str(primary.port))
        async with asyncio.timeout(30):
            for each in replicas:
                # A WAITAOF counts those alone whose append-only file has caught up.
                while "master_link_status:up" not in await replication(each):
                    await asyncio.sleep(0.05)

    async def fail_over(self, name: "Name", former: str) -> None:
        promoted, other = self.replicas
        await ask(promoted, "REPLICAOF", "NO", "ONE")
        name.target = promoted.port
        await self.follow(promoted, other, *([self.primary] if former == "a replica" else []))


async def ask(server: testing.RedisServer, *command: str) -> None:
    async with Redis.from_url(server.url) as redis:
        call: Any = redis.execute_command  # its types do not know it
        await call(*command)


async def replication(server: testing.RedisServer) -> str:
    async with Redis.from_url(server.url) as redis:
        return str(await redis.info("replication")).replace("': '", ":")


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    with ExitStack() as stack:
        started_up = [
            stack.enter_context(testing.redis_server(appendonly=True, options=REPLICATED)) for _ in range(3)
        ]
        servers = Servers(*started_up)
        await servers.follow(servers.primary, *servers.replicas)
        yield servers


@pytest.fixture
async def name(servers: Servers) -> AsyncIterator[Name]:
    name = Name(servers.primary.port)
    async with name.serving():
        yield name


@pytest.fixture
def replicated(name: Name, redis_url: str, people: People, tmp_path: Path) -> Settings:
    return make_settings(name.url, people.url, tmp_path, redis_replicas=2, limits_redis_url=redis_url)


async def revoke(service: Service, grant: dict[str, Any]) -> int:
    return (await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})).status_code


async def revoke_at(server: testing.RedisServer, session: str) -> None:
    store = Store(connect(server.url, "", None, timeout=2))
    await Revocations(store, 300_000).revoke_session(session)
    await store.close()


async def durably_revoked(revocations: Revocations) -> int | None:
    """How many sessions of somebody's ended; None if that was not confirmed."""
    try:
        return await revocations.revoke_subject("somebody", 2, 2)
    except StoreUnavailable:
        return None


async def until_acknowledged(service: Service, grant: dict[str, Any]) -> set[int]:
    """Sign out until that is acknowledged; whatever else was answered before."""
    before: set[int] = set()
    async with asyncio.timeout(10):
        while (status := await revoke(service, grant)) != 200:
            before.add(status)
            await asyncio.sleep(0.1)
    return before


async def until_refused(elsewhere: Any, token: str) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(TokenRefused):
                await elsewhere.verifier.identify(token.encode())
                await asyncio.sleep(0.02)
                continue
            return


async def refreshed(service: Service, grant: dict[str, Any]) -> httpx.Response:
    """Another connection may still lead to the former primary, which that one then finds out."""
    async with asyncio.timeout(SOON):
        while (response := await service.refresh(grant["refresh_token"])).status_code == 503:
            await asyncio.sleep(0.1)
    return response


@pytest.mark.quiet
@pytest.mark.parametrize("former", ["a replica", "a primary that nobody told"])
async def test_a_failover_that_cuts_no_connection_is_over_in_seconds_and_loses_no_sign_out(
    servers: Servers, name: Name, replicated: Settings, people: People, former: str
) -> None:
    async with started(replicated) as service, verifying(replicated, service) as elsewhere:
        before, after = await service.sign_in(), await service.sign_in()
        assert await until_acknowledged(service, before) <= {503}
        await until_refused(elsewhere, before["access_token"])

        await servers.fail_over(name, former)
        began = time.monotonic()
        assert await until_acknowledged(service, after) <= {503}
        assert time.monotonic() - began < SOON
        for grant in (before, after):
            await until_refused(elsewhere, grant["access_token"])
            assert (await refreshed(service, grant)).json()["code"] == "session_ended"
        later = await service.sign_in()
        await revoke_at(servers.replicas[0], service.session_of(later["access_token"]))
        await until_refused(elsewhere, later["access_token"])  # the follower has moved too
        changed = await service.sign_in()
        event: Any = people.change("ada@example.com")
        async with Redis.from_url(servers.replicas[0].url) as promoted:
            await promoted.xadd("users", event)
        await until_refused(elsewhere, changed["access_token"])  # and who hears of people
        async with verifying(replicated, service) as newcomer:
            for grant in (before, after, later):
                with pytest.raises(TokenRefused):
                    await newcomer.verifier.identify(grant["access_token"].encode())


@pytest.mark.quiet
async def test_a_former_primary_that_refuses_writes_without_replicas_is_left_at_once(
    servers: Servers, name: Name, replicated: Settings
) -> None:
    async with started(replicated) as service:
        grant = await service.sign_in()
        await servers.fail_over(name, "a primary that nobody told")
        began = time.monotonic()
        response = await refreshed(service, grant)
        assert response.status_code == 200
        assert time.monotonic() - began < SOON
        # What the new primary has made goes on there.
        assert (await service.refresh(response.json()["refresh_token"])).status_code == 200


async def test_an_end_that_no_replica_confirmed_is_not_taken_for_durable_when_asked_for_again(
    servers: Servers, name: Name, replicated: Settings
) -> None:
    async with started(replicated) as service:
        revocations = Revocations(service.parts.store, 1000)
        grant = await service.sign_in()
        for each in servers.replicas:
            each.pause()
        for _ in range(2):  # the second finds nothing left to end, and must not say that all is well
            assert await revoke(service, grant) == 503
            assert await durably_revoked(revocations) is None
        for each in servers.replicas:
            each.resume()
        await until_acknowledged(service, grant)
        async with asyncio.timeout(SOON):
            while await durably_revoked(revocations) is None:
                await asyncio.sleep(0.1)
