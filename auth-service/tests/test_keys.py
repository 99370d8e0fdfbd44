"""The key ring: by time, by command, between replicas, under two key-encryption keys."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import ISSUER, Service, make_settings, started
from people import People
from stored import age, records

from auth_service import cli
from auth_service.config import Settings
from auth_service.keys.exceptions import KeyNotInRing
from auth_service.keys.models import Policy, Ring, TooEarly
from auth_service.keys.service import STORED
from auth_service.keys.signing import new_key
from auth_service.main import make_keys, make_store
from auth_service.records import Records

POLICY = Policy(jwks_lifetime=300, token_life=300, skew=30, rotation=30 * 86400)


def a_ring(now: int = 0) -> Ring:
    return Ring.first(new_key(now), new_key(now), now)


def test_a_key_is_published_for_two_jwks_lifetimes_before_it_signs() -> None:
    ring = a_ring()
    with pytest.raises(TooEarly) as refusal:
        ring.rotated(new_key(0), 599, POLICY)
    assert refusal.value.safe_at == 600
    assert ring.rotated(new_key(600), 600, POLICY).current.kid == ring.next.kid


def test_a_retired_key_stays_until_its_last_token_has_expired_everywhere() -> None:
    ring = a_ring().rotated(new_key(600), 600, POLICY)
    assert ring.pruned(600 + 300 + 30 + 300 - 1, POLICY).retired
    assert not ring.pruned(600 + 300 + 30 + 300, POLICY).retired


def test_every_state_is_published_with_public_members_only() -> None:
    ring = a_ring().rotated(new_key(600), 600, POLICY)
    keys = ring.jwks()["keys"]
    assert [key.state for key in ring.keys] == ["next", "current", "retired"]
    assert len({key["kid"] for key in keys}) == 3
    assert all(set(key) == {"kty", "crv", "use", "alg", "kid", "x", "y"} for key in keys)


def test_the_ring_survives_its_json() -> None:
    ring = a_ring().rotated(new_key(600), 600, POLICY)
    assert Ring.from_json(ring.to_json()) == ring


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="cut off"),
        pytest.param(lambda text: "[1]", id="something else"),
        pytest.param(lambda text: text + "A", id="not Base64"),
        pytest.param(lambda text: text[::-1], id="Base64 of something else"),
        pytest.param(lambda _: records("key ring").seal(STORED, "[1]"), id="ours, but no ring"),
        pytest.param(
            lambda _: records("key ring").seal("elsewhere", a_ring().to_json()), id="of another place"
        ),
        pytest.param(
            lambda _: Records([b"x" * 32], "key ring").seal(STORED, a_ring().to_json()), id="of another key"
        ),
    ],
)
async def test_a_damaged_ring_is_refused_with_its_reason_and_never_replaced(
    damage: Callable[[str], str],
    redis: Any,
    redis_url: str,
    people: People,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started(make_settings(redis_url, people.url, tmp_path)):
        whole = await redis.get(STORED)
    damaged = damage(whole)
    await redis.set(STORED, damaged)
    form = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}
    async with started(make_settings(redis_url, people.url, tmp_path), ready=False) as service:
        for response in (
            await service.public.get("/.well-known/jwks.json"),
            await service.internal.get("/readyz"),
            await service.token(**form),
        ):
            assert response.status_code == 503
        assert any("the key ring cannot be used: " in record.message for record in caplog.records)
        assert await redis.get(STORED) == damaged
        await redis.set(STORED, whole)  # restored: nobody has to start anything again
        async with asyncio.timeout(5):
            while (await service.token(**form)).status_code != 200:
                await asyncio.sleep(0.05)


async def test_a_first_ring_is_no_warning_and_one_that_takes_the_place_of_a_lost_one_is(
    settings: Settings, redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auth_service.keys.service")
    store = make_store(settings)
    keys = make_keys(settings, store)
    for _ in range(2):
        await redis.flushdb()
        await keys.load()
    await store.close()
    assert [record.levelname for record in caplog.records if "store was empty" in record.message] == [
        "INFO",
        "WARNING",
    ]


async def test_of_two_replicas_that_find_a_rotation_due_one_rotates(
    service: Service, settings: Settings, redis: Any
) -> None:
    store = make_store(settings)
    first, second = make_keys(settings, store), make_keys(settings, store)
    before = await first.load()
    await age(redis, 31 * 86400)
    await asyncio.gather(first.tend(), second.tend())
    after = await first.load()
    assert after.current.kid == before.next.kid
    assert [key.kid for key in after.retired] == [before.current.kid]
    await store.close()


async def test_a_token_of_the_other_replicas_new_key_is_accepted_at_once(
    service: Service, settings: Settings, redis: Any
) -> None:
    async with started(settings) as other:
        await age(redis, 3600)
        await other.parts.keys.rotate()
        grant = await other.sign_in()
        async with service.client(grant["access_token"]) as client:
            assert (await client.get("/auth/verify")).status_code == 204
        kid = jwt.get_unverified_header(grant["access_token"])["kid"]
        published = (await service.public.get("/.well-known/jwks.json")).json()["keys"]
        assert kid in {key["kid"] for key in published}


async def test_a_rotation_leaves_the_tokens_of_the_old_key_good(service: Service, redis: Any) -> None:
    grant = await service.sign_in()
    await age(redis, 3600)
    await service.parts.keys.rotate()
    async with service.client(grant["access_token"]) as client:
        assert (await client.get("/auth/verify")).status_code == 204


async def test_a_revoked_key_is_refused_everywhere_and_the_next_one_signs(service: Service) -> None:
    grant = await service.sign_in()
    kid = jwt.get_unverified_header(grant["access_token"])["kid"]
    began = time.monotonic()
    await service.parts.keys.revoke(kid)
    async with service.client(grant["access_token"]) as client:
        while (response := await client.get("/auth/verify")).status_code == 204:
            await asyncio.sleep(0.01)
    assert response.status_code == 401
    assert response.json()["code"] in ("unknown_key", "key_revoked")
    assert time.monotonic() - began < 5
    renewed = (await service.refresh(grant["refresh_token"])).json()
    assert jwt.get_unverified_header(renewed["access_token"])["kid"] != kid
    with pytest.raises(KeyNotInRing):
        await service.parts.keys.revoke(kid)


async def test_an_access_token_has_the_claims_and_the_type_of_rfc_9068(service: Service) -> None:
    token = (await service.sign_in())["access_token"]
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    assert set(claims) == {
        "iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "cv", "scope", "roles", "auth_time",
    }  # fmt: skip
    assert claims["iss"] == claims["aud"] == ISSUER
    assert claims["exp"] - claims["iat"] == 300


async def test_a_clients_subject_is_no_users_id_and_its_token_has_no_person(service: Service) -> None:
    secret = await service.parts.clients.register("reports", {"a"}, {"user-service"})
    form = {"grant_type": "client_credentials", "audience": "user-service"}
    response = await service.public.post("/auth/token", data=form, auth=("reports", secret))
    claims = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
    assert claims["sub"] == "client:reports"
    assert claims["aud"] == "user-service"
    assert "cv" not in claims
    assert "roles" not in claims
    refused = await service.public.post(
        "/auth/token", data=form | {"audience": "billing"}, auth=("reports", secret)
    )
    assert refused.json()["error"] == "invalid_target"


async def test_the_operators_commands_say_what_they_did_and_when_it_will_be_safe(
    redis_url: str, people: People, tmp_path: Path, redis: Any
) -> None:
    settings = make_settings(redis_url, people.url, tmp_path)

    async def run(*arguments: str) -> None:
        await cli.run(settings, cli.parser().parse_args(arguments))

    await run("keys", "list")
    with pytest.raises(TooEarly):
        await run("keys", "rotate")
    await age(redis, 3600)
    await run("keys", "rotate")
    await run("clients", "add", "reports", "--scope", "a")
    await run("clients", "list")
    assert "reports" in await redis.hgetall("auth:clients")


def test_a_refused_command_ends_with_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("refresh_key", "key_encryption_key", "device_key"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SECRETS_DIR", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["auth_service", "keys", "list"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 2
