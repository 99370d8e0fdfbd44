"""Revocations are followed from a real server, and nothing is passed that cannot be proved."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service_kit.jwks import KeyCache
from service_kit.revocations import Follower, Revocations, connect
from service_kit.testing import RedisServer, TestIssuer
from service_kit.tokens import CannotVerify, TokenRefused, Verifier

EPOCH, STREAM = "auth:epoch", "auth:revocations"


class System:
    """A follower at work beside the server that it follows."""

    def __init__(self, server: RedisServer, issuer: TestIssuer) -> None:
        self.server, self.issuer = server, issuer
        self.keys = KeyCache(issuer.fetch_keys)
        self.revocations = Revocations()
        self.redis = Redis.from_url(server.url, decode_responses=True)
        self.tail = connect(server.url, "", None)
        self.follower = Follower(self.tail, self.revocations, self.keys)
        self.verifier = Verifier(self.keys, self.revocations, {issuer.url: None})

    async def begin(self, epoch: str) -> None:
        await self.redis.set(EPOCH, epoch)
        await self.redis.xadd(STREAM, {"kind": "start"})

    def verify(self, token: str) -> str:
        """`accepted`, or the code of the refusal."""
        try:
            self.verifier.verify(token.encode(), time.time())
        except (TokenRefused, CannotVerify) as refusal:
            return refusal.code
        return "accepted"

    async def until(self, token: str, outcome: str) -> None:
        async with asyncio.timeout(5):
            while self.verify(token) != outcome:
                await asyncio.sleep(0.005)


@pytest.fixture
async def system(redis_server: RedisServer, issuer: TestIssuer) -> AsyncIterator[System]:
    system = System(redis_server, issuer)
    await system.keys.refresh()
    await system.begin("a" * 32)
    tasks = [asyncio.create_task(work) for work in (system.follower.run(), system.keys.run())]
    yield system
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await system.tail.aclose()
    await system.redis.aclose()


async def test_a_signed_out_session_is_refused(system: System) -> None:
    token = system.issuer.token(sid="s" * 22)
    await system.until(token, "accepted")
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "session", "sid": "s" * 22, "until": until})
    await system.until(token, "session_revoked")
    assert system.verify(system.issuer.token()) == "accepted"


async def test_older_credentials_are_refused(system: System) -> None:
    old, new = system.issuer.token(sub="ada", cv=1), system.issuer.token(sub="ada", cv=2)
    await system.until(old, "accepted")
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "subject", "sub": "ada", "cv": "2", "until": until})
    await system.until(old, "credentials_changed")
    assert system.verify(new) == "accepted"


async def test_an_emptied_store_closes_and_its_refill_does_not_forget(system: System) -> None:
    token, other = system.issuer.token(sid="s" * 22), system.issuer.token()
    await system.until(token, "accepted")
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "session", "sid": "s" * 22, "until": until})
    await system.until(token, "session_revoked")
    await system.redis.flushall()
    async with asyncio.timeout(5):
        while system.verify(other) == "accepted":
            await asyncio.sleep(0.01)
    await system.begin("b" * 32)
    await system.until(other, "accepted")
    assert system.verify(token) == "session_revoked"


async def test_a_silent_server_changes_nothing_at_first(system: System) -> None:
    token = system.issuer.token()
    await system.until(token, "accepted")
    system.server.pause()
    try:
        await asyncio.sleep(0.5)
        assert system.verify(token) == "accepted"
    finally:
        system.server.resume()
