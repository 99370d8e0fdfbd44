"""Whoever was told that a session has ended cannot use it any more at the gateway that passed the words on."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.response_revocations import ResponseRevocations
from gateway.policy.shared_revocations import SharedRevocations
from service_kit.response_revocations import HEADER, headers
from service_kit.revocations import Revocation, Revocations
from service_kit.testing import TestIssuer, redis_server
from service_kit.tokens import CannotVerify, TokenRefused
from tests.conftest import GatewayUnderTest, turns
from tests.process import Gateway, connected, reset, serving, until
from tests.test_admission import bearer
from tests.test_exchange import is_problem, status
from tests.test_sockets import ADA, EVENTS, SWITCH, Streamed, following
from tests.wire import get, post

LIFE = 3630.0
CLOSE = b"Connection: close"


def said(*revocations: Revocation) -> bytes:
    """The header's line."""
    [(name, value)] = headers(revocations).items()
    return f"{name}: {value}".encode()


def session(sid: str = str(ADA["sid"]), seconds: float = 600) -> Revocation:
    return Revocation("session", sid, int(time.time() + seconds))


def subject(cv: int) -> Revocation:
    return Revocation("subject", str(ADA["sub"]), int(time.time() + 600), cv)


@pytest.fixture(name="believing")
async def _believing(tmp_path: Path) -> AsyncIterator[Streamed]:
    """A gateway that believes its one service, beside a stream in which nothing comes."""
    with redis_server() as server:
        async with following(tmp_path, server, revoking_services=("echo",)) as streamed:
            yield streamed


async def read(gateway: GatewayUnderTest, **claims: Any) -> bytes:
    gateway.upstream.response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    return await gateway.send(get(b"/private", CLOSE, bearer(gateway, **(ADA | claims))))


async def told(gateway: GatewayUnderTest, *lines: bytes, request: bytes = b"") -> bytes:
    """What a client gets of a public answer with these lines in its head."""
    head = b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"Content-Length: 2"))
    gateway.upstream.response = head + b"\r\n\r\nok"
    return await gateway.send(request or post(CLOSE))


async def count(gateway: GatewayUnderTest, result: str) -> float:
    """As the metrics say."""
    transport = httpx.ASGITransport(gateway.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    name = f'gateway_response_revocations_total{{result="{result}",service="echo"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"POST", b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\nok"),
        (b"POST", b"HTTP/1.1 204 No Content\r\n%b\r\n\r\n"),
        (b"POST", b"HTTP/1.1 400 Bad Request\r\n%b\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\n%b\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (
            b"GET",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n",
        ),
        (b"GET", b"HTTP/1.1 200 OK\r\n%b\r\nConnection: gatehouse-revoked\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_every_final_response_that_names_a_session_ends_it_and_keeps_the_name_to_itself(
    believing: Streamed, method: bytes, response: bytes
) -> None:
    gateway = believing.gateway
    assert status(await read(gateway)) == 200
    gateway.upstream.response = response % said(session())
    got = await gateway.send(get(b"/public/a", CLOSE).replace(b"GET", method, 1))
    assert b"revoked" not in got.lower()
    assert is_problem(await read(gateway), 401, b"session_revoked")
    assert status(await read(gateway, sid="o" * 22)) == 200


async def test_a_person_is_refused_with_every_older_version_of_their_credentials(believing: Streamed) -> None:
    gateway = believing.gateway
    await told(gateway, said(subject(cv=2)))
    assert is_problem(await read(gateway, cv=1), 401, b"credentials_changed")
    assert status(await read(gateway, cv=2)) == 200
    assert status(await read(gateway, sub="bob")) == 200


async def test_several_are_named_in_one_line_or_in_several(believing: Streamed) -> None:
    gateway = believing.gateway
    await told(gateway, said(session("a"), session("b")), said(session("c")).lower())
    for sid in "abc":
        assert is_problem(await read(gateway, sid=sid), 401, b"session_revoked")


async def test_it_is_applied_before_the_first_byte_of_the_response_is_passed_on(believing: Streamed) -> None:
    gateway = believing.gateway
    gateway.upstream.response = b"HTTP/1.1 200 OK\r\n" + said(session()) + b"\r\nContent-Length: 2\r\n\r\n"
    async with connected(gateway.port) as (waiting, writer):
        writer.write(post())
        assert await asyncio.wait_for(waiting.read(1), 5) == b"H"
        assert is_problem(await read(gateway), 401, b"session_revoked")
        reset(writer)  # the rest of it never comes


async def test_sockets_and_event_streams_of_the_session_are_closed(believing: Streamed) -> None:
    gateway = believing.gateway
    socket = await believing.open("/socket", SWITCH)
    events = await believing.open("/private", EVENTS)
    await told(gateway, said(session()))
    assert b"session_revoked" in await asyncio.wait_for(socket.read(), 5)
    assert (await asyncio.wait_for(events.readuntil(b"0\r\n\r\n"), 5)).endswith(b"0\r\n\r\n")


async def test_a_service_that_is_not_entitled_ends_nobodys_session_and_the_name_goes_no_further(
    tmp_path: Path,
) -> None:
    with redis_server() as server:
        async with following(tmp_path, server) as streamed:
            gateway = streamed.gateway
            assert b"revoked" not in (await told(gateway, said(session()))).lower()
            assert status(await read(gateway)) == 200
            assert await count(gateway, "not_entitled") == 1


async def test_interim_responses_and_switches_pass_no_name_on_and_end_nothing(believing: Streamed) -> None:
    gateway = believing.gateway
    hints = b"HTTP/1.1 103 Early Hints\r\n" + said(session()) + b"\r\nLink: </a>\r\n\r\n"
    gateway.upstream.response = hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    got = await gateway.send(get(b"/public/a", CLOSE))
    assert b"Link: </a>" in got
    assert b"revoked" not in got.lower()
    switch = SWITCH.removesuffix(b"\r\n") + said(session()) + b"\r\n\r\n"
    await believing.open("/socket", switch)
    assert status(await read(gateway)) == 200


async def test_no_client_says_what_has_ended(believing: Streamed) -> None:
    gateway = believing.gateway
    gateway.upstream.got.clear()
    await told(gateway, request=post(CLOSE, said(session()), said(session()).upper()))
    assert b"revoked" not in b"".join(gateway.upstream.got).lower()
    assert status(await read(gateway)) == 200


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        ([b"Gatehouse-Revoked: " + b"4" * 22], "malformed"),
        ([b"Gatehouse-Revoked:"], "malformed"),
        ([said(session()) + b", nonsense here"], "malformed"),
        ([said(session())] * 65, "too_large"),
        ([said(session()) + b"," + b" " * 8192 + b"more"], "too_large"),
        ([said(session(seconds=-1))], "until_out_of_range"),
        ([said(session(seconds=LIFE + 86_400))], "until_out_of_range"),
        ([said(Revocation("session", str(ADA["sid"]), 999_999_999_999_999))], "until_out_of_range"),
    ],
)
async def test_what_cannot_be_believed_is_ignored_counted_and_logged_once(
    believing: Streamed, caplog: pytest.LogCaptureFixture, lines: list[bytes], result: str
) -> None:
    gateway = believing.gateway
    for _ in range(3):
        assert b"revoked" not in (await told(gateway, *lines)).lower()
    assert status(await read(gateway)) == 200
    assert await count(gateway, result) == 3
    assert [record.getMessage() for record in caplog.records if "ignored" in record.message] == [
        f"what echo says has ended is ignored, reason={result}"
    ]


# Two workers of one gateway.


class Worker:
    """What one worker knows, and whether it would let a session pass."""

    def __init__(self, shared: SharedRevocations) -> None:
        self.revocations = Revocations()
        self.revocations.prove(time.time())
        self.told = ResponseRevocations(self.revocations, ("auth",), shared)
        self._issuer = TestIssuer()

    def admits(self, sid: str) -> bool:
        self.told.catch_up()
        caller: Any = type("Caller", (), {"session_id": sid, "key_id": "k", "credentials_version": None})
        try:
            self.revocations.check(caller, time.time())
        except TokenRefused:
            return False
        return True


STEPS = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.lists(st.integers(0, 40), max_size=5)))


@given(STEPS)
def test_what_one_worker_was_told_every_worker_knows_at_its_next_check(
    steps: list[tuple[int, bool, list[int]]],
) -> None:
    shared = SharedRevocations(slots=1000)
    workers = [Worker(shared) for _ in range(3)]
    ended: set[int] = set()
    for who, takes, sids in steps:
        if takes and sids:
            named = headers(session(str(sid)) for sid in sids)[HEADER].encode()
            workers[who].told.take("auth", [named])
            ended |= set(sids)
        else:
            assert {sid for sid in sids if not workers[who].admits(str(sid))} == set(sids) & ended
    for worker in [*workers, Worker(shared)]:
        assert {sid for sid in range(41) if not worker.admits(str(sid))} == ended


def test_a_worker_that_missed_something_passes_nobody_until_the_stream_has_proved_itself() -> None:
    shared = SharedRevocations(slots=8)
    busy, idle = Worker(shared), Worker(shared)
    for number in range(9):
        busy.told.take("auth", [headers([session(str(number))])[HEADER].encode()])
    assert busy.admits("x")
    with pytest.raises(CannotVerify):
        idle.admits("x")
    idle.revocations.prove(time.time())
    assert idle.admits("x")
    assert not idle.admits("8")


def test_the_longest_entries_fit_into_the_shared_memory() -> None:
    shared = SharedRevocations(slots=4)
    worker, other = Worker(shared), Worker(shared)
    ids = [letter + '"' * 254 for letter in "abcd"]
    worker.told.take("auth", [headers(session(sid) for sid in ids)[HEADER].encode()])
    assert not any(other.admits(sid) for sid in ids)
    assert other.admits("a")


def test_a_worker_that_dies_with_the_lock_in_its_hands_blocks_nobody() -> None:
    shared = SharedRevocations()
    child = os.fork()
    if not child:
        with shared._locked():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    shared.append([b"after"])
    assert shared.since(0) == ([b"after"], 1, False)


@contextmanager
def stopped_with_the_lock(shared: SharedRevocations) -> Iterator[None]:
    """Another worker that has it and does nothing any more."""
    child = os.fork()
    if not child:
        with shared._locked():
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)


def test_a_worker_that_is_stopped_with_the_lock_in_its_hands_stops_no_other() -> None:
    shared = SharedRevocations()
    worker, other = Worker(shared), Worker(shared)
    worker.told.take("auth", [headers([session("before")])[HEADER].encode()])
    with stopped_with_the_lock(shared):
        assert not other.admits("before")
        worker.told.take("auth", [headers([session("meanwhile")])[HEADER].encode()])
        assert not worker.admits("meanwhile")
        assert other.admits("meanwhile"), "it is told by the stream"
    worker.told.take("auth", [headers([session("after")])[HEADER].encode()])
    assert not other.admits("after")
    assert worker.told.counts["auth", "not_shared"] == 1


def test_what_may_be_half_written_by_a_worker_that_is_stopped_is_not_read() -> None:
    shared = SharedRevocations(slots=100)
    worker, other = Worker(shared), Worker(shared)
    for number in range(50):
        worker.told.take("auth", [headers([session(str(number))])[HEADER].encode()])
    with stopped_with_the_lock(shared):
        with pytest.raises(CannotVerify):
            other.admits("0")
        other.revocations.prove(time.time())
        assert not other.admits("49")


TABLE = """
[[routes]]
name = "echo.a"
path = "/a"
methods = ["GET", "POST"]
access = "public"

[[routes]]
name = "echo.private"
path = "/private"
methods = ["GET"]
"""


async def test_the_next_read_is_refused_by_the_other_worker_too(tmp_path: Path) -> None:
    issuer, rounds = TestIssuer(), 200
    responses: dict[str, bytes] = {}

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                name, body = b"", b"ok"
                if request.startswith(b"GET /jwks"):
                    body = json.dumps(issuer.jwks()).encode()
                elif request.startswith(b"POST"):
                    name = responses["next"] + b"\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (name, len(body), body))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    keys = await asyncio.start_server(upstream, "127.0.0.1", 0)
    with redis_server() as server:
        await _begin_stream(server.url)
        settings = {
            "WORKERS": "2",
            "JWKS_URL": f"http://127.0.0.1:{keys.sockets[0].getsockname()[1]}/jwks",
            "REVOCATIONS_REDIS_URL": server.url,
            "REVOCATIONS_REDIS_USER": "default",
            "REVOKING_SERVICES": "echo",
        }
        async with serving(tmp_path, upstream, TABLE, **settings) as gateway, AsyncExitStack() as clients:
            await until(lambda: len(gateway.workers()) == 2)
            first, second = [await _connected_to(gateway, pid, clients) for pid in sorted(gateway.workers())]
            for number in range(rounds):
                token = issuer.token(sid=f"{number:022}")
                told, other = (first, second) if number % 2 else (second, first)
                assert await _ask(other, get(b"/private", f"Authorization: Bearer {token}".encode())) == 200
                responses["next"] = said(session(f"{number:022}"))
                assert await _ask(told, get(b"/a").replace(b"GET", b"POST")) == 200
                assert await _ask(other, get(b"/private", f"Authorization: Bearer {token}".encode())) == 401
    keys.close()


async def _begin_stream(url: str) -> None:
    from redis.asyncio import Redis

    from service_kit.follower import EPOCH, STREAM

    redis = Redis.from_url(url)
    await redis.set(EPOCH, "a" * 32)
    await redis.xadd(STREAM, {"kind": "start"})
    await redis.aclose()


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connected_to(gateway: Gateway, pid: str, clients: AsyncExitStack) -> Client:
    """A connection that this worker has: the others are stopped while it is made."""
    others = [int(other) for other in gateway.workers() if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        client = await clients.enter_async_context(connected(gateway.port))
        assert await _ask(client, get(b"/a")) == 200
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)
    return client


async def _ask(client: Client, request: bytes) -> int:
    reader, writer = client
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    await turns()
    return status(head)
