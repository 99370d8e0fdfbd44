"""A primary that a failover left behind answers as before: nobody believes it for longer than the ceiling.

Real servers, a primary and its replica on two machines. Whoever promotes the replica tells the former primary nothing,
and everything revoked afterwards is revoked at the new one alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from conftest import Promise
from redis.asyncio import Redis

from service_kit import testing
from service_kit.follower import EPOCH, STREAM, Follower, connect
from service_kit.jwks import KeyCache
from service_kit.revocations import Revocations
from service_kit.testing import RedisServer, TestIssuer
from service_kit.tokens import CannotVerify, TokenRefused, Verifier

CEILING = 5.0  # seconds
FROZEN_SECONDS = 12.5
LOOK_ON_SECONDS = 4.0  # a thawed primary calls its replica good for three seconds
GUARDED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
QUICK = ("--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0")


class Pair:
    """A primary, its replica, and a verifier that has no other server than the primary."""

    def __init__(self, primary: RedisServer, replica: RedisServer, issuer: TestIssuer) -> None:
        self.primary, self.replica = primary, replica
        self.token, self.other = issuer.token(sid="s" * 22), issuer.token()
        self.revocations = Revocations(CEILING)
        self.keys = KeyCache(issuer.fetch_keys)
        self._redis = connect(primary.url, "", None)
        self.follower = Follower(self._redis, self.revocations, self.keys, replicas=1)
        self._verifier = Verifier(self.keys, self.revocations, {issuer.url: None})

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with Redis.from_url(self.primary.url) as redis:
            await soon(lambda: redis.set(EPOCH, "e" * 32))  # refused until the replica is there
            await redis.xadd(STREAM, {"kind": "start", "until": "0"})
        work = [asyncio.create_task(each) for each in (self.follower.run(), self.keys.run())]
        try:
            async with asyncio.timeout(20):
                while self.outcome(self.token) != "accepted":
                    await asyncio.sleep(0.02)
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await self._redis.aclose()

    async def fail_over(self) -> float:
        """Promote the replica and revoke the token there; when that was acknowledged."""
        async with Redis.from_url(self.replica.url) as redis:
            call: Any = redis.execute_command  # its types do not know it
            await call("REPLICAOF", "NO", "ONE")
            await call("CONFIG", "SET", "min-replicas-to-write", "0")
            until = str(int(time.time()) + 400)
            await redis.xadd(STREAM, {"kind": "session", "until": until, "sid": "s" * 22})
        return time.time()

    def outcome(self, token: str) -> str:
        """`accepted`, or the code of the refusal."""
        try:
            self._verifier.verify(token.encode(), time.time())
        except (TokenRefused, CannotVerify) as refusal:
            return refusal.code
        return "accepted"

    async def accepted_for(self, revoked: float, seconds: float) -> float:
        """How long after it was revoked the token was last accepted, looking on for so many seconds."""
        last = revoked
        while time.time() < revoked + seconds:
            if self.outcome(self.token) == "accepted":
                last = time.time()
            await asyncio.sleep(0.005)
        return last - revoked


async def soon(act: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(Exception):
                await act()
                return
            await asyncio.sleep(0.1)


@pytest.fixture
def network() -> Iterator[testing.Network]:
    with testing.network() as made:
        yield made


def pair(
    stack: ExitStack, issuer: TestIssuer, *hosts: testing.Host | None, options: tuple[str, ...] = GUARDED
) -> Pair:
    primary, replica = (
        stack.enter_context(testing.redis_server(appendonly=True, options=(*QUICK, *options), host=host))
        for host in hosts
    )
    replica.follow(primary)
    return Pair(primary, replica, issuer)


async def test_a_verifier_on_a_primary_that_was_cut_off_accepts_no_revoked_token_after_the_ceiling(
    network: testing.Network, issuer: TestIssuer, promise: Promise
) -> None:
    with ExitStack() as stack:
        servers = pair(stack, issuer, *network.hosts)
        async with servers.following():
            network.cut()
            accepted = await servers.accepted_for(await servers.fail_over(), CEILING + LOOK_ON_SECONDS)
            assert servers.outcome(servers.other) == "revocations_stale"
            async with Redis.from_url(servers.primary.url) as redis:
                assert (await redis.info("replication"))["role"] == "master", "it does not know"
    promise("a verifier on a primary that was left behind: revoked token accepted", accepted, CEILING)


async def test_a_verifier_on_a_primary_that_was_frozen_and_thawed_accepts_no_revoked_token_after_the_ceiling(
    issuer: TestIssuer, promise: Promise
) -> None:
    with ExitStack() as stack:
        servers = pair(stack, issuer, None, None)
        async with servers.following():
            servers.primary.pause()
            await asyncio.sleep(2)
            revoked = await servers.fail_over()
            accepted = await servers.accepted_for(revoked, FROZEN_SECONDS - 2)
            servers.primary.resume()
            thawed = time.time()
            accepted = max(accepted, await servers.accepted_for(revoked, thawed - revoked + LOOK_ON_SECONDS))
            assert servers.outcome(servers.other) == "revocations_stale"
    promise("a verifier on a primary that was frozen and thawed: revoked token accepted", accepted, CEILING)


async def test_a_primary_that_is_followed_is_believed_without_a_break(
    issuer: TestIssuer, promise: Promise
) -> None:
    with ExitStack() as stack:
        servers = pair(stack, issuer, None, None)
        async with servers.following():
            oldest, began = 0.0, time.time()
            while time.time() < began + 6:
                oldest = max(oldest, servers.revocations.staleness(time.time()))
                await asyncio.sleep(0.01)
            until = str(int(time.time()) + 400)
            async with Redis.from_url(servers.primary.url) as redis:
                await redis.xadd(STREAM, {"kind": "session", "until": until, "sid": "s" * 22})
                async with asyncio.timeout(CEILING):
                    while servers.outcome(servers.token) != "session_revoked":
                        await asyncio.sleep(0.01)
    promise("a primary that is followed: age of the proof at rest", oldest, CEILING)


async def test_a_server_without_replicas_to_wait_for_makes_no_verifier_ready(issuer: TestIssuer) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(testing.redis_server())
        async with Redis.from_url(server.url) as redis:
            await redis.set(EPOCH, "e" * 32)
            await redis.xadd(STREAM, {"kind": "start", "until": "0"})
        client = connect(server.url, "", None)
        follower = Follower(client, Revocations(), KeyCache(issuer.fetch_keys), replicas=1)
        following = asyncio.create_task(follower.run())
        async with asyncio.timeout(10):
            while "min-replicas-to-write" not in str(follower.unready):
                await asyncio.sleep(0.02)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.aclose()
