"""The checklist's "Tokens and keys", clause by clause: at the verifier, and at a service's own door."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Security
from pydantic import ValidationError

from service_kit import exception_handlers
from service_kit.authenticator import Authenticator
from service_kit.bearer import challenge
from service_kit.dependencies import get_current_user, get_service_caller, require
from service_kit.jws import MAX_TOKEN
from service_kit.settings import VerifierSettings
from service_kit.testing import TestIssuer
from service_kit.testing.refused import REFUSED, Refused
from service_kit.tokens import Caller, CannotVerify, TokenRefused


class Issuer:
    """Counts how often the keys are asked for."""

    def __init__(self, issuer: TestIssuer) -> None:
        self._issuer = issuer
        self.asked = 0

    async def fetch_keys(self) -> dict[str, Any]:
        self.asked += 1
        return self._issuer.jwks()


@pytest.fixture
def asked(issuer: TestIssuer) -> Issuer:
    return Issuer(issuer)


def make_settings(issuer: TestIssuer, **changes: Any) -> VerifierSettings:
    usual = {
        "public_url": issuer.url,
        "jwks_url": "http://127.0.0.1:1/",
        "revocations_redis_url": "redis://127.0.0.1:1",
    }
    return VerifierSettings(**(usual | changes))


async def identity_of(settings: VerifierSettings, asked: Issuer) -> Authenticator:
    authenticator = Authenticator(settings, "orders", fetch_keys=asked.fetch_keys)
    assert await authenticator.keys.refresh()
    authenticator.revocations.prove(time.time())
    return authenticator


@pytest.fixture
async def authenticator(issuer: TestIssuer, asked: Issuer) -> Authenticator:
    return await identity_of(make_settings(issuer), asked)


Service = httpx.AsyncClient
ReadOrders = Annotated[Caller, Depends(require(scopes=["orders:read", "orders:all"]))]
InternalCaller = Annotated[Caller, Depends(get_service_caller("orders:count"))]


@pytest.fixture
async def service(authenticator: Authenticator) -> AsyncIterator[Service]:
    """A service with a route for anybody signed in, one that wants scopes, and an internal one."""
    app = FastAPI()
    app.state.authenticator = authenticator
    exception_handlers.install(app)

    @app.post("/me")
    async def me(request: Request, caller: Annotated[Caller, Depends(get_current_user)]) -> list[str]:
        return [caller.subject, (await request.body()).decode()]

    @app.get("/orders")
    async def orders(caller: ReadOrders) -> str:
        return caller.subject

    @app.get("/internal/orders")
    async def count(caller: InternalCaller) -> str:
        return caller.client_id

    async with Service(transport=httpx.ASGITransport(app), base_url="http://orders") as client:
        yield client


def bearing(token: str) -> dict[bytes, bytes]:
    return {b"Authorization": b"Bearer " + token.encode("latin-1")}


# 1-7: what is refused, as a table


@pytest.mark.parametrize("bad", REFUSED, ids=str)
async def test_the_verifier_refuses(
    bad: Refused, authenticator: Authenticator, asked: Issuer, issuer: TestIssuer
) -> None:
    with pytest.raises(TokenRefused) as refusal:
        await authenticator.verifier.identify(bad.make(issuer).encode("latin-1"))
    assert refusal.value.code == bad.code
    assert asked.asked == 1  # for the keys, before the token came


async def test_a_service_refuses_each_of_them_with_a_challenge_and_without_an_echo(
    service: Service, issuer: TestIssuer
) -> None:
    answers, expected = {}, {}
    for bad in REFUSED:
        token = bad.make(issuer)
        if not token or token != token.strip(" "):
            continue  # spaces around a header's value are not part of it
        answer = await service.post("/me", headers=bearing(token))
        assert answer.status_code == 401, bad
        answers[str(bad)], expected[str(bad)] = answer.json()["code"], bad.code
        challenge = answer.headers["www-authenticate"]
        assert re.fullmatch(r'Bearer error="invalid_token", error_description="[^"\\]+"', challenge), bad
    assert answers == expected


GOOD: dict[str, Callable[[TestIssuer], str]] = {
    "as our issuer writes it": lambda issuer: issuer.token(),
    "with the type's long name": lambda issuer: issuer.token(header={"typ": "application/at+jwt"}),
    "for us, in a list": lambda issuer: issuer.token(aud=[issuer.url]),
    "with fractions of seconds": lambda issuer: issuer.token(iat=time.time(), exp=time.time() + 60.5),
    "valid since a while": lambda issuer: issuer.token(nbf=int(time.time()) - 10),
    "from a clock that is ahead by the leeway": lambda issuer: issuer.token(iat=int(time.time()) + 29),
    "without person, scope and roles": lambda issuer: issuer.token(
        cv=None, scope=None, roles=None, auth_time=None
    ),
    "with claims and members that we do not know": lambda issuer: issuer.token(
        header={"x": {"y": 1}}, more=[{}]
    ),
    "with a thumbprint that nobody looks at": lambda issuer: issuer.token(
        header={"x5t": "AA", "x5c": ["AA"]}
    ),
    "of just 8 KiB": lambda issuer: filled(issuer, MAX_TOKEN),
}


def filled(issuer: TestIssuer, length: int) -> str:
    """A token of this very length."""
    short = len(issuer.token(more=""))
    return next(
        token
        for size in range((length - short) * 3 // 4 - 4, length)
        if len(token := issuer.token(more="x" * size)) == length
    )


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_a_token_is_accepted(
    make: Callable[[TestIssuer], str], authenticator: Authenticator, service: Service, issuer: TestIssuer
) -> None:
    token = make(issuer)
    assert authenticator.verifier.verify(token.encode(), time.time()).issuer == issuer.url
    assert (await service.post("/me", headers=bearing(token))).status_code == 200


# 2: no I/O for anything that a token says


async def test_no_address_in_a_header_is_ever_visited(
    authenticator: Authenticator, service: Service, issuer: TestIssuer, asked: Issuer
) -> None:
    visits = 0

    async def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.close()

    async with await asyncio.start_server(visited, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        stranger = TestIssuer(issuer.url)
        stranger.sign_with(issuer.kid, stranger.key)
        for header in (
            {"jku": url},
            {"x5u": url},
            {"jku": url, "x5u": url, "jwk": {}, "x5c": [url]},
            {"kid": url},
        ):
            forged = await service.post("/me", headers=bearing(stranger.token(header=header)))
            assert forged.status_code == 401, header
            ours = await service.post("/me", headers=bearing(issuer.token(header=header)))
            assert ours.status_code == (401 if "kid" in header else 200), header
        async with httpx.AsyncClient() as client:  # it does count
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(url)
    assert (visits, asked.asked) == (1, 1)


async def test_unknown_key_ids_are_asked_for_once_however_many_come(
    authenticator: Authenticator, service: Service, issuer: TestIssuer, asked: Issuer
) -> None:
    authenticator.keys.drop_all()  # so that the pause after the last question does not count
    for number in range(50):
        answer = await service.post("/me", headers=bearing(issuer.token(header={"kid": f"unknown-{number}"})))
        assert (answer.status_code, answer.json()["code"]) == (401, "unknown_key")
    assert asked.asked == 2


# 4 and 5: each token at the door that it was made for


async def test_a_services_token_opens_the_internal_door_alone_and_a_persons_the_public_one(
    service: Service, issuer: TestIssuer
) -> None:
    person, peer = issuer.token(scope="*"), issuer.service_token("orders", "orders:count")
    assert (await service.get("/internal/orders", headers=bearing(peer))).json() == "caller"
    assert (await service.post("/me", headers=bearing(person))).status_code == 200
    for path, token in (
        ("/internal/orders", person),
        ("/internal/orders", issuer.service_token("users", "orders:count")),
        ("/orders", peer),
    ):
        answer = await service.get(path, headers=bearing(token))
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_audience")


async def test_no_wildcard_opens_an_internal_door(service: Service, issuer: TestIssuer) -> None:
    answer = await service.get("/internal/orders", headers=bearing(issuer.service_token("orders", "*")))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize("leeway", [0.0, 10.0, 60.0])
async def test_one_leeway_holds_for_every_time_and_every_audience(
    issuer: TestIssuer, asked: Issuer, leeway: float
) -> None:
    authenticator = await identity_of(make_settings(issuer, token_leeway_seconds=leeway), asked)
    now = int(time.time())
    for verifier, audience in (
        (authenticator.verifier, issuer.url),
        (authenticator.service_verifier, "orders"),
        (authenticator.verifier_for("another"), "another"),
    ):
        for accepted, refused, code in (
            ({"exp": now + 1 - leeway}, {"exp": now - leeway}, "token_expired"),
            ({"iat": now + leeway}, {"iat": now + leeway + 1}, "token_not_yet_valid"),
            ({"nbf": now + leeway}, {"nbf": now + leeway + 1}, "token_not_yet_valid"),
        ):
            usual: dict[str, Any] = {"iat": now - 100, "exp": now + 100, "aud": audience}
            assert verifier.verify(issuer.token(**(usual | accepted)).encode(), now).audience == audience
            with pytest.raises(TokenRefused) as refusal:
                verifier.verify(issuer.token(**(usual | refused)).encode(), now)
            assert refusal.value.code == code


@pytest.mark.parametrize("leeway", [60.1, 3600, -1, float("nan"), float("inf")])
def test_no_setting_makes_the_leeway_longer_than_a_minute(issuer: TestIssuer, leeway: float) -> None:
    with pytest.raises(ValidationError, match="token_leeway_seconds"):
        make_settings(issuer, token_leeway_seconds=leeway)


def test_no_service_makes_a_verifier_with_a_leeway_of_its_own() -> None:
    root = Path(__file__).parents[2]
    makers = {
        file.relative_to(root)
        for file in root.glob("*/src/**/*.py")
        if "Verifier(" in file.read_text("utf-8")
    }
    inside = Path("service-kit/src/service_kit")
    assert makers <= {inside / "authenticator.py", inside / "tokens.py", inside / "settings.py"}


async def test_the_lifetime_that_is_accepted_is_a_setting(issuer: TestIssuer, asked: Issuer) -> None:
    authenticator = await identity_of(make_settings(issuer, token_max_lifetime_seconds=300), asked)
    now = int(time.time())
    assert (
        authenticator.verifier.verify(issuer.token(iat=now, exp=now + 300).encode(), now).expires_at
        == now + 300
    )
    with pytest.raises(TokenRefused, match="token_lifetime"):
        authenticator.verifier.verify(issuer.token(iat=now, exp=now + 301).encode(), now)


async def test_another_issuer_is_accepted_until_its_last_day_is_over(
    issuer: TestIssuer, asked: Issuer
) -> None:
    today = datetime.now(UTC).date()
    tomorrow = datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC).timestamp()
    settings = make_settings(
        issuer, issuers_also_accepted={"http://old": today, "http://older": today - timedelta(days=1)}
    )
    authenticator = await identity_of(settings, asked)
    authenticator.revocations.prove(tomorrow)
    old: dict[str, Any] = {"iss": "http://old", "aud": "http://old"}
    token = issuer.token(**old, iat=int(tomorrow) - 60, exp=int(tomorrow) + 60).encode()
    assert authenticator.verifier.verify(token, tomorrow - 1).issuer == "http://old"
    for iss, aud, code in (
        ("http://older", "http://older", "wrong_issuer"),
        ("http://old", issuer.url, "wrong_audience"),
    ):
        with pytest.raises(TokenRefused, match=code):
            authenticator.verifier.verify(issuer.token(iss=iss, aud=aud).encode(), time.time())
    with pytest.raises(TokenRefused, match="wrong_issuer"):
        authenticator.verifier.verify(token, tomorrow)


# OAuth 2: RFC 6750 at a service's door


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_schemes_case_does_not_matter(service: Service, issuer: TestIssuer, scheme: str) -> None:
    answer = await service.post("/me", headers={"Authorization": f"{scheme} {issuer.token()}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Basic", "Negotiate x", "Bearertoken"]
)
async def test_without_credentials_there_is_a_challenge_without_an_error(
    service: Service, value: str | None
) -> None:
    answer = await service.post("/me", headers={} if value is None else {"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_is_sent_in_one_way(service: Service, issuer: TestIssuer) -> None:
    token = issuer.token()
    header = bearing(token)
    for answer in (
        await service.post("/me", headers=header, params={"access_token": token}),
        await service.post("/me", params={"access_token": token}),
        await service.post("/me", headers=header, data={"a": "b", "access_token": token}),
        await service.post("/me", headers=header, data={"access_token": ""}),
        await service.post("/me", headers=[*header.items(), *header.items()]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_request"')


async def test_a_token_in_the_body_alone_is_no_token(service: Service, issuer: TestIssuer) -> None:
    answer = await service.post("/me", data={"access_token": issuer.token()})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_form_that_was_looked_into_is_still_the_routes(service: Service, issuer: TestIssuer) -> None:
    answer = await service.post("/me", headers=bearing(issuer.token(sub="ada")), data={"a": "\xe9"})
    assert answer.json() == ["ada", "a=%C3%A9"]


async def test_a_missing_scope_is_named(service: Service, issuer: TestIssuer) -> None:
    answer = await service.get("/orders", headers=bearing(issuer.token(scope="orders:read users:read")))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope"')
    assert challenge.endswith('scope="orders:all orders:read"')


def test_nothing_that_a_challenge_quotes_breaks_out_of_it() -> None:
    said = challenge("insufficient_scope", "It's needed.", 'a", realm="x\\\r\nX-Other: \u20ac\x7f')
    assert said.startswith(
        'Bearer error="insufficient_scope", error_description="It\'s needed.", scope="a?, realm=?x'
    )
    assert said.count('"') == 6
    assert re.fullmatch(r"[\x20-\x5b\x5d-\x7e]+", said)


async def test_what_cannot_be_told_now_is_no_refusal(
    service: Service, authenticator: Authenticator, issuer: TestIssuer
) -> None:
    authenticator.revocations.unprove()
    answer = await service.post("/me", headers=bearing(issuer.token()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "www-authenticate" not in answer.headers


async def test_a_key_that_nobody_can_be_asked_for_is_no_refusal(issuer: TestIssuer) -> None:
    async def nobody_answers() -> dict[str, Any]:
        raise ConnectionError

    authenticator = Authenticator(make_settings(issuer), "orders", fetch_keys=nobody_answers)
    with pytest.raises(CannotVerify, match="keys_unavailable"):
        await authenticator.verifier.identify(issuer.token().encode())


# Scopes as FastAPI says them, and how long ago the person signed in (RFC 9470)


async def test_a_route_that_names_scopes_with_security_demands_them(
    authenticator: Authenticator, issuer: TestIssuer
) -> None:
    app = FastAPI()
    app.state.authenticator = authenticator
    exception_handlers.install(app)

    @app.get("/orders", dependencies=[Security(get_current_user, scopes=["orders:read"])])
    async def orders(caller: Annotated[Caller, Depends(get_current_user)]) -> str:
        return caller.subject

    @app.put("/orders", dependencies=[Depends(require(scopes=["orders:write"], max_age=60))])
    async def order() -> str:
        return "ordered"

    paths = app.openapi()["paths"]["/orders"]
    assert paths["get"]["security"] == [{"oauth2": ["orders:read"]}]
    assert paths["put"]["security"] == [{"oauth2": ["orders:write"]}]
    async with Service(transport=httpx.ASGITransport(app), base_url="http://orders") as client:
        for scope, status in (("orders:read", 200), ("*", 200), ("orders:write", 403), ("", 403)):
            answer = await client.get("/orders", headers=bearing(issuer.token(scope=scope)))
            assert answer.status_code == status, scope
        now = int(time.time())
        for auth_time, status in ((now, 200), (now - 50, 200), (now - 61, 401), (None, 401)):
            answer = await client.put("/orders", headers=bearing(issuer.token(auth_time=auth_time)))
            assert answer.status_code == status, auth_time
        assert answer.json()["code"] == "insufficient_user_authentication"
        assert 'max_age="60"' in answer.headers["www-authenticate"]
