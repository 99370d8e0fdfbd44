"""A token is accepted in one form, or refused with a code."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.jwks import KeyCache
from service_kit.testing import TestIssuer
from service_kit.tokens import Caller, KeyUnknown, TokenRefused, Verifier


class NothingRevoked:
    def check(self, caller: Caller, now: float) -> None:
        pass


@pytest.fixture
async def verifier(issuer: TestIssuer) -> Verifier:
    keys = KeyCache(issuer.fetch_keys)
    await keys.refresh()
    return Verifier(keys, NothingRevoked(), {issuer.url: None})


def refused(verifier: Verifier, token: str | bytes) -> str:
    with pytest.raises(TokenRefused) as refusal:
        verifier.verify(token.encode() if isinstance(token, str) else token, time.time())
    return refusal.value.code


async def test_a_good_token_names_its_caller(verifier: Verifier, issuer: TestIssuer) -> None:
    caller = verifier.verify(issuer.token(sub="ada", roles=["admin"]).encode(), time.time())
    assert (caller.subject, caller.roles, caller.has_scope("anything")) == ("ada", frozenset({"admin"}), True)


@pytest.mark.parametrize("alg", ["none", "nOnE", "", "HS256", "RS256", "PS256", "ES384"])
async def test_the_algorithm_is_never_the_headers_choice(
    verifier: Verifier, issuer: TestIssuer, alg: str
) -> None:
    assert refused(verifier, issuer.token(header={"alg": alg})) in ("token_algorithm", "token_malformed")


@pytest.mark.parametrize("typ", ["JWT", "id+jwt", "", None, 7])
async def test_only_an_access_token_is_an_access_token(
    verifier: Verifier, issuer: TestIssuer, typ: Any
) -> None:
    assert refused(verifier, issuer.token(header={"typ": typ})) in ("token_type", "token_malformed")


@pytest.mark.parametrize("name", ["exp", "iat", "sub", "client_id", "jti", "iss", "aud"])
async def test_a_claim_that_must_be_there_is_missed(
    verifier: Verifier, issuer: TestIssuer, name: str
) -> None:
    assert refused(verifier, issuer.token(**{name: None}))


@pytest.mark.parametrize("value", ["soon", True, -1, [], {}])
async def test_a_time_is_a_number(verifier: Verifier, issuer: TestIssuer, value: Any) -> None:
    assert refused(verifier, issuer.token(exp=value))


async def test_times_decide(verifier: Verifier, issuer: TestIssuer) -> None:
    now = int(time.time())
    assert refused(verifier, issuer.token(iat=now - 400, exp=now - 100)) == "token_expired"
    assert refused(verifier, issuer.token(iat=now + 100, exp=now + 200)) == "token_not_yet_valid"
    assert refused(verifier, issuer.token(iat=now, exp=now + 90_000)) == "token_lifetime"
    assert verifier.verify(issuer.token(iat=now + 29, exp=now + 300).encode(), now).issuer == issuer.url


async def test_another_issuer_or_audience_is_refused(verifier: Verifier, issuer: TestIssuer) -> None:
    assert refused(verifier, issuer.token(iss="http://localhost:8081")) == "wrong_issuer"
    assert refused(verifier, issuer.service_token("user-service", "users:read")) == "wrong_audience"


async def test_a_changed_token_is_refused(verifier: Verifier, issuer: TestIssuer) -> None:
    head, claims, signature = issuer.token().split(".")
    assert refused(verifier, f"{head}.{claims}.{signature[::-1]}")
    assert refused(verifier, f"{head}.{claims}.{signature}=")
    assert refused(verifier, f"{head}.{claims}") == "token_malformed"
    assert refused(verifier, f"{head}.{claims}.{signature}." + "a") == "token_malformed"


async def test_a_member_twice_is_refused(verifier: Verifier, issuer: TestIssuer) -> None:
    header = b'{"alg":"ES256","alg":"ES256","typ":"at+jwt","kid":"%b"}' % issuer.kid.encode()
    assert refused(verifier, issuer.sign_raw(header, b"{}")) == "token_malformed"


async def test_a_key_of_a_good_shape_may_be_looked_for_and_a_bad_one_not(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    with pytest.raises(KeyUnknown):
        verifier.verify(issuer.token(header={"kid": "another"}).encode(), time.time())
    for kid in ("../../etc/passwd", "a" * 10_000, "' or 1=1", "\0"):
        with pytest.raises(TokenRefused) as refusal:
            verifier.verify(issuer.token(header={"kid": kid}).encode(), time.time())
        assert not isinstance(refusal.value, KeyUnknown)


async def test_a_token_seen_before_still_expires(verifier: Verifier, issuer: TestIssuer) -> None:
    token = issuer.token().encode()
    verifier.verify(token, time.time())
    assert verifier.remembered(token, time.time())
    with pytest.raises(TokenRefused, match="token_expired"):
        verifier.verify(token, time.time() + 10_000)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(token: bytes) -> None:
    verifier = Verifier(KeyCache(TestIssuer().fetch_keys), NothingRevoked(), {"http://localhost:8080": None})
    with pytest.raises(TokenRefused):
        verifier.verify(token, time.time())
