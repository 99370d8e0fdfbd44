"""Revocations are followed from a real server, and nothing is passed that cannot be proved."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service_kit import background, follower
from service_kit.authenticator import Authenticator
from service_kit.follower import Follower, connect
from service_kit.jwks import KeyCache
from service_kit.revocations import Revocation, Revocations
from service_kit.settings import VerifierSettings
from service_kit.testing import RedisServer, TestIssuer
from service_kit.tokens import Caller, CannotVerify, TokenRefused, Verifier

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
    async with working(System(redis_server, issuer)) as system:
        yield system


@asynccontextmanager
async def working(system: System) -> AsyncIterator[System]:
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


async def test_who_takes_every_connection_of_the_server_stops_nobody_who_has_one(
    redis_server: RedisServer,
    issuer: TestIssuer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No password is needed for that: whoever reaches the server can. The connection is renewed all the same, for a
    failover may move the name and cut nothing."""
    monkeypatch.setattr(follower, "_RECONNECT", 0.05)
    monkeypatch.setattr(follower, "_BLOCK", 0.1)
    async with working(System(redis_server, issuer)) as system:
        system.revocations._ceiling = 1.0
        token = issuer.token(sid="s" * 22)
        await system.until(token, "accepted")
        first = await connections_of(system)
        async with asyncio.timeout(5):
            while await connections_of(system) & first:
                await asyncio.sleep(0.01)
        taken = [Redis.from_url(redis_server.url) for _ in range(20)]
        await system.redis.config_set("maxclients", 10)
        taking = asyncio.create_task(take_all(taken))
        async with asyncio.timeout(5):
            while (await system.redis.info("clients"))["connected_clients"] < 10:
                await asyncio.sleep(0.01)
        until_stale = time.monotonic() + 2 * system.revocations._ceiling
        while time.monotonic() < until_stale:
            assert system.verify(token) == "accepted"
            await asyncio.sleep(0.01)
        until = str(int(time.time()) + 400)
        await system.redis.xadd(STREAM, {"kind": "session", "sid": "s" * 22, "until": until})
        await system.until(token, "session_revoked")
        assert caplog.text.count("as there is no other") == 1
        await background.end([taking])
        for one in taken:
            await one.aclose()


async def take_all(clients: list[Redis]) -> None:
    """Has whatever connection there is, again and again."""
    while True:
        for one in clients:
            with suppress(RedisError, OSError):
                await one.ping()


async def connections_of(system: System) -> set[str]:
    """The ids of all connections but the one that asks."""
    own = await system.redis.client_id()
    return {one["id"] for one in await system.redis.client_list()} - {str(own)}


async def test_a_revoked_key_is_refused_and_so_is_what_it_signed_before(system: System) -> None:
    token = system.issuer.token()
    await system.until(token, "accepted")
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "key", "kid": system.issuer.kid, "until": until})
    await system.until(token, "key_revoked")  # the issuer still publishes it


async def test_a_restored_older_copy_is_read_from_its_beginning_and_what_is_held_stays(
    system: System,
) -> None:
    token, other = system.issuer.token(sid="s" * 22), system.issuer.token()
    await system.until(token, "accepted")
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "session", "sid": "s" * 22, "until": until})
    await system.until(token, "session_revoked")
    async with system.redis.pipeline() as together:
        together.delete(STREAM)
        together.xadd(STREAM, {"kind": "session", "sid": "t" * 22, "until": until}, id="1-1")
        await together.execute()
    await system.until(system.issuer.token(sid="t" * 22), "session_revoked")
    await system.until(other, "accepted")
    assert system.verify(token) == "session_revoked"


async def test_what_was_trimmed_before_it_was_read_proves_nothing_missing(system: System) -> None:
    token = system.issuer.token()
    await system.until(token, "accepted")
    async with system.redis.pipeline() as together:
        for _ in range(3):
            together.xadd(STREAM, {"kind": "start"})
        together.xtrim(STREAM, maxlen=0, approximate=False)
        await together.execute()
    proven = time.time()
    async with asyncio.timeout(5):
        while system.revocations.staleness(proven) > 0:
            await asyncio.sleep(0.01)
    assert system.verify(token) == "accepted"


MALFORMED: list[dict[str, str]] = [
    {"kind": "session"},
    {"kind": "session", "sid": "x", "until": "soon"},
    {"kind": "subject", "sub": "ada", "until": "9999999999"},
    {"kind": "unheard-of"},
    {"other": "member"},
]


async def test_a_malformed_entry_is_passed_over_and_what_follows_it_is_not(system: System) -> None:
    token = system.issuer.token(sid="s" * 22)
    await system.until(token, "accepted")
    for entry in MALFORMED:
        await system.redis.xadd(STREAM, entry)  # type: ignore[arg-type] # a dict of text is what it takes
    until = str(int(time.time()) + 400)
    await system.redis.xadd(STREAM, {"kind": "session", "sid": "s" * 22, "until": until})
    await system.until(token, "session_revoked")
    assert len(system.revocations) == 1


async def test_a_stream_that_is_missing_is_told_once_and_not_with_every_look(
    redis_server: RedisServer, issuer: TestIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service_kit.stream")
    system = System(redis_server, issuer)
    await system.redis.delete(EPOCH, STREAM)
    following = asyncio.create_task(system.follower.run())
    await asyncio.sleep(0.5)  # some looks
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await system.tail.aclose()
    await system.redis.aclose()
    assert [r.message for r in caplog.records if "the epoch or the stream is missing" in r.message] == [
        "revocations are read from the beginning: the epoch or the stream is missing"
    ]


# What is held, without a stream


def caller_of(issuer: TestIssuer, verifier: Verifier, **claims: Any) -> Caller:
    return verifier.verify(issuer.token(**claims).encode(), time.time())


async def test_proof_has_an_age_limit_and_a_clock_set_back_proves_nothing(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    caller, held = caller_of(issuer, verifier), Revocations(ceiling=60)
    for now, code in (
        (1000, "revocations_unproven"),
        (1000 + 61, "revocations_stale"),
        (1000 - 61, "revocations_stale"),
    ):
        with pytest.raises(CannotVerify, match=code):
            held.check(caller, now)
        held.prove(1000)
    for now in (1000, 1060, 940):
        held.check(caller, now)
    held.unprove()
    with pytest.raises(CannotVerify, match="revocations_unproven"):
        held.check(caller, 1000)


async def test_a_revocation_is_forgotten_when_it_can_matter_no_more_and_not_before() -> None:
    held, told = Revocations(), []
    held.on_change(lambda revocation: told.append(revocation.until))
    for until in (100, 200, 150):  # said again, it holds until the latest
        held.add(Revocation("session", "s", until))
    held.add(Revocation("subject", "ada", 100, 7))
    held.add(Revocation("subject", "ada", 100, 6))  # a lower version says nothing new
    assert told == [100, 200, 100]
    held.expire(99)
    assert len(held) == 2
    held.expire(100)
    assert len(held) == 1
    held.expire(200)
    assert len(held) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(0, 3)), max_size=20),
    st.integers(0, 10),
)
def test_whatever_is_learnt_in_any_order_the_latest_end_and_the_highest_version_hold(
    learnt: list[tuple[str, int, int]], now: int
) -> None:
    held = Revocations()
    for subject, until, version in learnt:
        held.add(Revocation("subject", subject, until, version))
    held.expire(now)
    living = {subject: max(until for each, until, _ in learnt if each == subject) for subject, _, _ in learnt}
    assert len(held) == sum(until > now for until in living.values())
    for subject, until in living.items():
        if until > now:
            highest = max(version for each, _, version in learnt if each == subject)
            assert held._versions.get(subject, 0) == highest


async def test_nobody_is_served_before_keys_and_revocations_are_there(
    system: System, issuer: TestIssuer
) -> None:
    async def fetch_late() -> dict[str, Any]:
        await asyncio.sleep(0.1)
        return await issuer.fetch_keys()

    settings = VerifierSettings(
        public_url=issuer.url, jwks_url=issuer.url, revocations_redis_url=system.server.url
    )
    authenticator = Authenticator(settings, "orders", fetch_keys=fetch_late)
    async with authenticator.running():
        assert authenticator.ready() is None
        assert authenticator.verifier.verify(issuer.token(sub="ada").encode(), time.time()).subject == "ada"


async def test_a_service_starts_although_nobody_tells_it_of_revocations(issuer: TestIssuer) -> None:
    settings = VerifierSettings(
        public_url=issuer.url, jwks_url=issuer.url, revocations_redis_url="redis://127.0.0.1:1"
    )
    authenticator = Authenticator(settings, "orders", fetch_keys=issuer.fetch_keys)
    async with asyncio.timeout(5), authenticator.running():
        assert authenticator.ready() is not None
