"""What a token says, what is remembered of it, and that nothing anybody sends makes reading it fail otherwise."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_kit.jwks import KeyCache
from service_kit.jws import MAX_TOKEN
from service_kit.revocations import Revocation, Revocations
from service_kit.testing import TestIssuer
from service_kit.testing.issuer import encode
from service_kit.testing.refused import ORDER
from service_kit.tokens import Caller, CannotVerify, TokenRefused, Verifier


async def test_a_good_token_names_its_caller(verifier: Verifier, issuer: TestIssuer) -> None:
    token = issuer.token(sub="ada", roles=["admin"], scope="a b", sid="s", jti="j", cv=7)
    caller = verifier.verify(token.encode(), time.time())
    assert (caller.subject, caller.session_id, caller.token_id, caller.credentials_version) == (
        "ada",
        "s",
        "j",
        7,
    )
    assert (caller.roles, caller.scopes) == (frozenset({"admin"}), frozenset({"a", "b"}))
    assert caller.has_scope("a")
    assert not caller.has_scope("c")
    assert verifier.verify(issuer.token(scope="*").encode(), time.time()).has_scope("anything")


async def test_a_token_seen_before_is_known_again_and_still_expires(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    token = issuer.token().encode()
    now = time.time()
    first = verifier.verify(token, now)
    assert verifier.remembered(token, now)
    assert verifier.verify(token, now) is first
    assert (verifier.hits, verifier.misses) == (1, 1)
    with pytest.raises(TokenRefused, match="token_expired"):
        verifier.verify(token, now + 10_000)


async def test_both_forms_of_a_signature_name_one_caller_and_end_with_one_session(
    verifier: Verifier, revocations: Revocations, issuer: TestIssuer
) -> None:
    token, now = issuer.token(sid="s"), time.time()
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = f"{signed}.{encode(raw[:32] + (ORDER - int.from_bytes(raw[32:])).to_bytes(32))}"
    assert other != token
    assert verifier.verify(other.encode(), now) == verifier.verify(token.encode(), now)
    revocations.add(Revocation("session", "s", int(now) + 600))
    for text in (token, other):
        with pytest.raises(TokenRefused, match="session_revoked"):
            verifier.verify(text.encode(), now)


async def test_the_memo_is_bounded_and_keeps_what_came_last(
    keys: KeyCache, revocations: Revocations, issuer: TestIssuer
) -> None:
    verifier = Verifier(keys, revocations, {issuer.url: None}, memo_size=2)
    tokens = [issuer.token().encode() for _ in range(3)]
    now = time.time()
    for token in tokens:
        verifier.verify(token, now)
    assert [verifier.remembered(token, now) for token in tokens] == [False, True, True]


async def test_callers_share_what_their_tokens_say_alike(verifier: Verifier, issuer: TestIssuer) -> None:
    def caller(**claims: Any) -> Caller:
        return verifier.verify(issuer.token(**claims).encode(), time.time())

    one, other = (caller(roles=["admin", "member"], scope="a b") for _ in range(2))
    assert one.session_id != other.session_id
    for name in ("issuer", "audience", "client_id", "scopes", "roles"):
        assert getattr(one, name) is getattr(other, name), name
    many = " ".join(map(str, range(500)))
    assert caller(scope=many).scopes is not caller(scope=many).scopes, "it may be forged, and fill the memory"


async def test_a_refused_token_is_never_remembered(verifier: Verifier, issuer: TestIssuer) -> None:
    token = issuer.token(aud="another").encode()
    for _ in range(2):
        with pytest.raises(TokenRefused):
            verifier.verify(token, time.time())
    assert not verifier.remembered(token, time.time())


async def test_a_key_that_is_gone_takes_the_remembered_tokens_along(
    verifier: Verifier, keys: KeyCache, issuer: TestIssuer
) -> None:
    token = issuer.token().encode()
    verifier.verify(token, time.time())
    keys.drop(issuer.kid)
    assert not verifier.remembered(token, time.time())
    with pytest.raises(TokenRefused, match="key_revoked"):
        verifier.verify(token, time.time())


# Whatever anybody sends

ISSUER = TestIssuer()
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = SIMPLE | st.lists(SIMPLE, max_size=3) | st.dictionaries(st.text(max_size=8), SIMPLE, max_size=2)


@pytest.fixture(scope="module")
def reading() -> Verifier:
    """Knows the keys of ISSUER, and of no revocation."""
    keys = KeyCache(ISSUER.fetch_keys)
    assert asyncio.run(keys.refresh())
    revocations = Revocations()
    revocations.prove(time.time())
    return Verifier(keys, revocations, {ISSUER.url: None})


def outcome(verifier: Verifier, token: bytes) -> Caller | str:
    """The caller, or the code of the refusal; any other exception fails the test."""
    try:
        return verifier.verify(token, time.time())
    except (TokenRefused, CannotVerify) as refusal:
        return refusal.code


@given(st.binary(max_size=400) | st.lists(st.binary(max_size=80), min_size=2, max_size=6).map(b".".join))
def test_no_bytes_are_a_token(reading: Verifier, token: bytes) -> None:
    assert isinstance(outcome(reading, token), str)


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(min_size=60, max_size=68))
def test_no_bytes_in_the_right_spelling_are_a_token(
    reading: Verifier, header: bytes, claims: bytes, signature: bytes
) -> None:
    assert isinstance(
        outcome(reading, f"{encode(header)}.{encode(claims)}.{encode(signature)}".encode()), str
    )


HEADERS = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk"]) | st.text(max_size=8)
CLAIMS = st.sampled_from(sorted(ISSUER.claims())) | st.text(max_size=8)


@given(st.dictionaries(HEADERS, VALUES, max_size=2), st.dictionaries(CLAIMS, VALUES, max_size=3))
def test_whatever_the_issuer_signs_is_read_or_refused(
    reading: Verifier, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    told = outcome(reading, ISSUER.sign(ISSUER.header() | header, ISSUER.claims() | claims).encode())
    if isinstance(told, Caller):
        assert "crit" not in header or header["crit"] is None
        assert told.issuer == told.audience == ISSUER.url
        assert 0 <= told.issued_at < told.expires_at <= 1e12


@given(st.data())
@settings(max_examples=200)
def test_no_change_of_a_good_token_is_accepted(reading: Verifier, data: st.DataObject) -> None:
    good = ISSUER.token().encode()
    place = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 3))
    changed = good[:place] + data.draw(st.binary(max_size=3)) + good[place + cut :]
    told = outcome(reading, changed)
    assert isinstance(told, Caller) if changed == good else isinstance(told, str)


def large(claims: bytes) -> bytes:
    """As large as a token may be, with these claims again and again, under a good header."""
    head = encode(json.dumps(ISSUER.header()).encode())
    return f"{head}.{encode(claims)[: MAX_TOKEN - len(head) - 90]}.{'A' * 86}".encode()


NASTY: dict[str, Callable[[], bytes]] = {
    "dots": lambda: b"." * MAX_TOKEN,
    "one part": lambda: b"A" * MAX_TOKEN,
    "padding": lambda: b"=" * MAX_TOKEN,
    "more than a token may be": lambda: b"A" * 10**6,
    "brackets": lambda: large(b"[" * MAX_TOKEN),
    "members": lambda: large(b"{" + b'"a":1,' * MAX_TOKEN),
    "digits": lambda: large(b'{"exp":' + b"9" * MAX_TOKEN),
    "most digits that are read": lambda: large(b'{"exp":' + b"9" * 4300 + b"}"),
    "an exponent": lambda: large(b'{"exp":1e' + b"9" * MAX_TOKEN),
    "escapes": lambda: large(b'{"a":"' + rb"\u0000" * MAX_TOKEN),
    "spaces": lambda: large(b" " * MAX_TOKEN),
    "a text that never ends": lambda: large(b'{"a":"' + b"a" * MAX_TOKEN),
}


@pytest.mark.parametrize("make", NASTY.values(), ids=NASTY)
def test_refusing_costs_little_more_than_accepting(reading: Verifier, make: Callable[[], bytes]) -> None:
    nasty = make()
    refused: list[float] = []
    accepted: list[float] = []
    for _ in range(7):
        good = ISSUER.token().encode()
        for token, spent in ((nasty, refused), (good, accepted)):
            began = time.perf_counter()
            told = outcome(reading, token)
            spent.append(time.perf_counter() - began)
            assert isinstance(told, Caller) is (token is good)
    assert min(refused) < 10 * min(accepted)  # the least of several: others share this machine
