"""Reading the issuer's keys: asked for rarely and once at a time, and what is held outlives every bad answer."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import REGISTRY

from service_kit.jwks import FetchOutcome, KeyCache, http_fetch, parse, public_jwk
from service_kit.testing import TestIssuer, free_port


class Answers:
    """An issuer that answers as it is told to, when it is told to."""

    def __init__(self, issuer: TestIssuer) -> None:
        self.issuer = issuer
        self.asked = 0
        self.error: Exception | None = None
        self.document: Any = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self) -> Any:
        self.asked += 1
        document = self.issuer.jwks() if self.document is None else self.document
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return document


@pytest.fixture
def issuer() -> TestIssuer:
    return TestIssuer()


@pytest.fixture
def answers(issuer: TestIssuer) -> Answers:
    return Answers(issuer)


@pytest.fixture
async def keys(answers: Answers) -> KeyCache:
    cache = KeyCache(answers.fetch, cooldown=0.05)
    assert await cache.refresh()
    return cache


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# Asked once


async def test_everybody_waits_for_one_fetch(answers: Answers) -> None:
    keys = KeyCache(answers.fetch)
    answers.may_answer.clear()
    waiting = [asyncio.create_task(keys.fetch_for(answers.issuer.kid)) for _ in range(50)]
    waiting += [asyncio.create_task(keys.fetch_for("another"))]
    await until(lambda: answers.asked)
    waiting[0].cancel()  # one that gives up does not end what the others wait for
    answers.may_answer.set()
    told = await asyncio.gather(*waiting[1:])
    assert told == [FetchOutcome.FOUND] * 49 + [FetchOutcome.ABSENT]
    assert answers.asked == 1


async def test_unknown_keys_are_asked_for_once_per_cool_down_and_a_new_key_is_found_after_it(
    keys: KeyCache, answers: Answers
) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        assert await keys.fetch_for("unknown") is FetchOutcome.ABSENT
    assert answers.asked <= 1 + (time.monotonic() - began) / 0.05
    kid = answers.issuer.rotate()
    async with asyncio.timeout(5):
        while await keys.fetch_for(kid) is not FetchOutcome.FOUND:
            await asyncio.sleep(0.005)


async def test_a_key_that_is_held_is_never_asked_for(keys: KeyCache, answers: Answers) -> None:
    assert await keys.fetch_for(answers.issuer.kid) is FetchOutcome.FOUND
    assert answers.asked == 1


async def test_that_nobody_answered_is_said_to_everybody_within_the_cool_down(answers: Answers) -> None:
    keys = KeyCache(answers.fetch, cooldown=3600)
    answers.error = ConnectionError()
    for _ in range(3):
        assert await keys.fetch_for("unknown") is FetchOutcome.UNAVAILABLE
    assert answers.asked == 1


# What is held


BROKEN: dict[str, Any] = {
    "no members": {},
    "no list": {"keys": "x"},
    "no keys": {"keys": []},
    "no key that we use": {"keys": [{"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}]},
    "more keys than anybody needs": {"keys": [{}] * 33},
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_cannot_be_relied_on_leaves_the_keys_held(
    keys: KeyCache, answers: Answers, document: Any
) -> None:
    answers.document = document
    assert not await keys.refresh()
    assert keys.find(answers.issuer.kid) is not None


@pytest.mark.parametrize(
    "error",
    [ConnectionError(), TimeoutError(), httpx.ReadTimeout(""), ValueError(), json.JSONDecodeError("", "", 0),
     RecursionError(), KeyError("x"), httpx.TooManyRedirects("")],
    ids=repr,
)  # fmt: skip
async def test_an_issuer_that_fails_leaves_the_keys_held(
    keys: KeyCache, answers: Answers, error: Exception
) -> None:
    answers.error = error
    assert not await keys.refresh()
    assert keys.find(answers.issuer.kid) is not None
    assert keys.loaded


async def test_no_answer_of_an_earlier_epoch_counts(keys: KeyCache, answers: Answers) -> None:
    answers.may_answer.clear()
    asked = asyncio.create_task(keys.refresh())
    await until(lambda: answers.asked == 2)
    keys.drop_all()
    assert keys.find(answers.issuer.kid) is None
    assert not keys.loaded
    answers.may_answer.set()
    assert not await asked
    assert keys.find(answers.issuer.kid) is None
    assert await keys.refresh()
    assert keys.find(answers.issuer.kid) is not None


async def test_a_revoked_key_does_not_come_back_from_an_issuer_that_has_not_heard_of_it(
    keys: KeyCache, answers: Answers
) -> None:
    await keys.refresh()
    kid = answers.issuer.kid
    assert keys.find(kid)
    keys.drop(kid)
    await keys.refresh()
    assert keys.find(kid) is None
    assert await keys.fetch_for(kid) is FetchOutcome.ABSENT


async def test_few_revoked_keys_are_remembered(keys: KeyCache) -> None:
    for number in range(5000):
        keys.drop(f"made-up-{number}")
    assert len(keys._revoked) == 1000


async def test_the_version_changes_when_a_key_is_gone_or_another_and_not_when_one_comes(
    keys: KeyCache, answers: Answers
) -> None:
    old, before = answers.issuer.kid, keys.version
    answers.issuer.rotate()
    await keys.refresh()
    assert keys.version == before
    answers.issuer.retire(old)
    await keys.refresh()
    assert keys.version == before + 1
    answers.issuer.sign_with(answers.issuer.kid, ec.generate_private_key(ec.SECP256R1()))
    await keys.refresh()
    assert keys.version == before + 2


async def test_the_keys_are_kept_fresh_and_a_dropped_one_is_asked_for_at_once(answers: Answers) -> None:
    keys = KeyCache(answers.fetch, lifetime=0.02)
    work = asyncio.create_task(keys.run())
    await until(lambda: answers.asked > 3)
    answers.error = ConnectionError()
    asked = answers.asked
    await until(lambda: answers.asked > asked + 1)  # a failure is tried again
    answers.error = None
    await until(lambda: keys.loaded)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

    lasting = KeyCache(answers.fetch, lifetime=3600)
    work = asyncio.create_task(lasting.run())
    await until(lambda: lasting.loaded)
    asked = answers.asked
    lasting.drop(answers.issuer.kid)
    await until(lambda: answers.asked > asked)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


# What a key set may say


def jwk(**members: Any) -> dict[str, Any]:
    usual = public_jwk("one", ec.generate_private_key(ec.SECP256R1()).public_key())
    return {name: value for name, value in (usual | members).items() if value is not None}


@pytest.mark.parametrize(
    "members",
    [{"kty": "RSA"}, {"kty": "OKP"}, {"kty": "oct", "k": "AA"}, {"kty": "PQ"}, {"kty": None}, {"kty": ["EC"]},
     {"crv": "P-384"}, {"crv": "secp256k1"}, {"crv": None}, {"use": "enc"}, {"alg": "ES384"}, {"alg": "none"},
     {"kid": None}, {"kid": ""}, {"kid": 7}, {"kid": "../key"}, {"kid": "k" * 65}, {"d": "AA"}],
    ids=str,
)  # fmt: skip
def test_a_key_that_is_not_for_us_is_passed_over(members: dict[str, Any]) -> None:
    assert parse({"keys": [jwk(**members), jwk(kid="ours"), 7, None, []]}).keys() == {"ours"}


@pytest.mark.parametrize(
    "members", [{"use": None}, {"alg": None}, {"key_ops": ["verify"]}, {"x5c": ["AA"]}], ids=str
)
def test_what_a_key_need_not_say_may_be_absent_and_what_we_do_not_know_is_ignored(
    members: dict[str, Any],
) -> None:
    assert parse({"keys": [jwk(**members)]}).keys() == {"one"}


@pytest.mark.parametrize("x", [None, 7, "", "AA", "A" * 43, "A" * 44, "/" * 43, "A" * 42 + "=", "_" * 43])
def test_a_key_set_with_a_point_that_is_none_is_not_relied_on(x: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse({"keys": [jwk(kid="ours"), jwk(x=x)]})


def test_a_key_set_that_says_one_name_twice_is_not_relied_on() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse({"keys": [jwk(), jwk()]})


def test_a_published_key_has_public_members_alone_and_is_read_back() -> None:
    key = ec.derive_private_key(1, ec.SECP256R1()).public_key()  # its coordinates begin with small digits too
    published = public_jwk("one", key)
    assert published.keys() == {"kty", "crv", "use", "alg", "kid", "x", "y"}
    assert parse({"keys": [published]}) == {"one": key}


# Over HTTP


@asynccontextmanager
async def answering(*pieces: bytes, pause: float = 0.0) -> AsyncIterator[str]:
    """A server that says these bytes, whatever it is asked."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"


def http(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_a_key_set_is_fetched(issuer: TestIssuer) -> None:
    document = json.dumps(issuer.jwks()).encode()
    async with answering(http(document)) as url:
        assert await http_fetch(url)() == issuer.jwks()


async def test_a_key_set_in_a_coding_that_was_not_asked_for_is_not_read(issuer: TestIssuer) -> None:
    """However few bytes it has, nothing says how many they stand for."""
    document = gzip.compress(gzip.compress(json.dumps(issuer.jwks()).encode()))
    async with answering(http(document, more="Content-Encoding: gzip, gzip\r\n")) as url:
        with pytest.raises(ValueError, match="not asked for"):
            await http_fetch(url)()


BAD: dict[str, bytes] = {
    "nothing": b"",
    "an error": http(b"{}", "500 Oops"),
    "a redirect": http(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"),
    "no JSON": http(b"<html>"),
    "a list": http(b"[]"),
    "more than a key set": http(b" " * 70_000 + b"{}"),
    "more than a key set, compressed": http(gzip.compress(b" " * 10**7), more="Content-Encoding: gzip\r\n"),
    "lists in lists": http(b"[" * 30_000),
    "half of it": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"keys":',
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_whatever_an_issuer_answers_is_a_failure_and_no_more(answer: bytes) -> None:
    async with answering(answer) as url:
        assert not await KeyCache(http_fetch(url)).refresh()


def fetched(outcome: str) -> float:
    return REGISTRY.get_sample_value("key_fetches_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(http(b"{}", "500 Oops"), "unusable"), (http(b"<html>"), "unusable"), (http(b'{"keys": []}'), "unusable"),
     (http(b"x", more="Content-Encoding: gzip\r\n"), "unusable"), (b"", "unreachable")],
)  # fmt: skip
async def test_each_fetch_is_counted_by_its_outcome(answer: bytes, outcome: str, answers: Answers) -> None:
    before = fetched(outcome)
    async with answering(answer) as url:
        await KeyCache(http_fetch(url)).refresh()
    assert fetched(outcome) == before + 1
    before = fetched("fetched")
    await KeyCache(answers.fetch).refresh()
    assert fetched("fetched") == before + 1


async def test_a_fetch_whose_answer_came_too_late_is_counted_as_overtaken(
    keys: KeyCache, answers: Answers
) -> None:
    before = fetched("overtaken")
    answers.may_answer.clear()
    waiting = asyncio.create_task(keys.refresh())
    await until(lambda: answers.asked == 2)
    keys.drop_all()
    answers.may_answer.set()
    assert not await waiting
    assert fetched("overtaken") == before + 1


async def test_an_issuer_that_drips_or_is_not_there_is_given_up() -> None:
    began = time.monotonic()
    async with answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000, pause=0.05
    ) as url:
        assert not await KeyCache(http_fetch(url, timeout=0.3)).refresh()
    assert not await KeyCache(http_fetch(f"http://127.0.0.1:{free_port()}/")).refresh()
    assert time.monotonic() - began < 10  # a thousand drips are fifty seconds
