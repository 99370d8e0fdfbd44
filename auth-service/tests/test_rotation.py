"""Replacing keys while everything goes on: the signing key, a leaked one, the refresh key, the key-encryption key."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import SECRETS, Service, make_settings, started
from people import People
from pydantic import SecretStr
from stored import age

from auth_service import cli
from auth_service.clients.exceptions import ClientFault
from auth_service.config import Settings
from auth_service.keys.exceptions import KeyNotInRing, KeysUnavailable
from auth_service.keys.models import TooEarly
from auth_service.main import make_keys, make_store
from service_kit.authenticator import Authenticator
from service_kit.tokens import CannotVerify, TokenRefused

UNLIMITED = {
    "sign_in_account_per_minute": 6000,
    "sign_in_address_per_minute": 6000,
    "sign_in_global_per_minute": 60_000,
    "sessions_per_person": 10_000,
}


@asynccontextmanager
async def verifying(settings: Settings, issuer: Service) -> AsyncIterator[Authenticator]:
    """Another service's verifier: it knows the published keys and the stream, and nothing else of ours."""

    async def fetch_keys() -> Any:
        return (await issuer.public.get("/.well-known/jwks.json")).json()

    authenticator = Authenticator(settings, "orders", fetch_keys=fetch_keys)
    async with authenticator.running():
        async with asyncio.timeout(10):
            while authenticator.ready() is not None:
                await asyncio.sleep(0.01)
        yield authenticator


async def command(settings: Settings, *arguments: str) -> None:
    await cli.run(settings, cli.parser().parse_args(arguments))


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_keys_rotate_under_load_and_nobody_notices(
    redis_url: str, people: People, tmp_path: Path
) -> None:
    """Two replicas that rotate by time, every three seconds; whatever was signed is tried at each verifier."""
    often = UNLIMITED | {"jwks_lifetime_seconds": 1, "key_rotation_days": 3 / 86400}
    settings = make_settings(redis_url, people.url, tmp_path, **often)
    signed: list[str] = []
    failures: list[str] = []
    asked = 0
    async with started(settings) as one, started(settings) as other, verifying(settings, other) as elsewhere:

        async def tried(token: str) -> None:
            nonlocal asked
            for replica in (one, other):
                async with replica.client(token) as client:
                    response = await client.get("/auth/verify")
                if response.status_code != 204:
                    failures.append(f"{response.status_code} {response.text}")
            asked += 3
            try:
                await elsewhere.verifier.identify(token.encode())
            except (TokenRefused, CannotVerify) as refusal:
                failures.append(f"elsewhere: {refusal.code}")

        async def person(at: Service, then_at: Service) -> None:
            nonlocal asked
            while asked < 2_000 or len({kid_of(token) for token in signed}) < 3:
                grant = await at.sign_in()
                renewed = (await then_at.refresh(grant["refresh_token"])).json()
                asked += 2
                signed.extend((grant["access_token"], renewed["access_token"]))
                for token in (
                    grant["access_token"],
                    renewed["access_token"],
                    signed[0],
                    signed[len(signed) // 2],
                ):
                    await tried(token)

        async with asyncio.timeout(120):
            await asyncio.gather(person(one, other), person(other, one), person(one, one))
    assert failures == []


async def test_a_leaked_key_is_dropped_by_an_operators_command_at_every_verifier(
    service: Service, settings: Settings
) -> None:
    async with started(settings) as other, verifying(settings, other) as elsewhere:
        token = (await service.sign_in())["access_token"]
        await elsewhere.verifier.identify(token.encode())
        began = time.monotonic()
        await command(settings, "keys", "revoke", kid_of(token))
        refused: dict[str, str] = {}
        async with asyncio.timeout(5):
            while "elsewhere" not in refused:
                try:
                    await elsewhere.verifier.identify(token.encode())
                except TokenRefused as refusal:
                    refused["elsewhere"] = refusal.code
                await asyncio.sleep(0.01)
            for name, replica in (("one", service), ("other", other)):
                async with replica.client(token) as client:
                    while (response := await client.get("/auth/verify")).status_code == 204:
                        await asyncio.sleep(0.01)
                refused[name] = response.json()["code"]
        assert time.monotonic() - began < 5
        assert set(refused.values()) <= {"key_revoked", "unknown_key"}
        for replica in (service, other):
            fresh = (await replica.sign_in())["access_token"]
            assert kid_of(fresh) != kid_of(token)
            await elsewhere.verifier.identify(fresh.encode())


async def test_what_commands_did_and_were_refused_is_in_the_services_own_audit(
    service: Service, settings: Settings, redis: Any, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    with pytest.raises(TooEarly):
        await command(settings, "keys", "rotate")
    await age(redis, 3600)
    await command(settings, "keys", "rotate")
    with pytest.raises(KeyNotInRing):
        await command(settings, "keys", "revoke", "absent")
    await command(settings, "keys", "revoke", (await service.parts.keys.load()).current.kid)
    await command(settings, "clients", "add", "reports")
    await command(settings, "clients", "add-secret", "reports")
    await command(settings, "clients", "drop-secret", "reports")
    with pytest.raises(ClientFault):
        await command(settings, "clients", "drop-secret", "reports")
    await command(settings, "clients", "remove", "reports")
    await command(settings, "clients", "list")
    async with asyncio.timeout(5):
        while len(told("operator")) < 9:
            await asyncio.sleep(0.02)
    assert [(event["event"], event["outcome"], event["reason"]) for event in told("operator")] == [
        ("keys", "refused", "too_early"),
        ("keys", "rotated", "command"),
        ("keys", "refused", "key_not_in_ring"),
        ("keys", "revoked", "command"),
        ("clients", "added", "command"),
        ("clients", "secret_added", "command"),
        ("clients", "secret_dropped", "command"),
        ("clients", "refused", "client_fault"),
        ("clients", "removed", "command"),
    ]
    assert {event["client"] for event in told("operator") if event["event"] == "clients"} == {"reports"}


async def test_a_rotation_that_would_break_a_verifier_is_refused_and_says_when_it_is_safe(
    redis_url: str, tmp_path: Path
) -> None:
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(secret.get_secret_value())
    environment = {
        "PATH": os.environ["PATH"],
        "SECRETS_DIR": str(tmp_path),
        "PUBLIC_URL": "http://localhost:8080",
        "REDIS_URL": redis_url,
        "REVOCATIONS_REDIS_URL": redis_url,
    }

    async def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        whole = [sys.executable, "-m", "auth_service", "keys", *arguments]
        return await asyncio.to_thread(
            subprocess.run, whole, env=environment, capture_output=True, text=True, timeout=60
        )

    ring = (await run("list")).stdout.splitlines()
    assert [line.split()[1] for line in ring] == ["next", "current"]
    safe = ring[0].partition("may sign from ")[2]
    refused = await run("rotate")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.splitlines() == [
        f"refused: verifiers may not know the next key yet. It will be safe at {safe}."
    ]
    assert (await run("list")).stdout.splitlines() == ring


def steps(settings: Settings, name: str) -> list[Settings]:
    """Replacing a secret, one restart after the other: accept the new one, use it, forget the old one."""
    old, new = getattr(settings, name), SecretStr("another secret of the tests, long enough")
    return [
        settings,
        settings.model_copy(update={f"{name}_previous": new}),
        settings.model_copy(update={name: new, f"{name}_previous": old}),
        settings.model_copy(update={name: new}),
    ]


async def test_a_new_refresh_key_signs_nobody_out_while_replicas_restart_one_by_one(
    settings: Settings,
) -> None:
    pair: dict[str, Any] = {}
    for before, after in pairwise(steps(settings, "refresh_key")):
        async with started(before) as one, started(after) as other:
            pair = pair or await one.sign_in()
            for replica in (one, other, one, other):
                response = await replica.refresh(pair["refresh_token"])
                assert response.status_code == 200, response.text
                pair = response.json()
            first = pair["refresh_token"]
    async with started(settings) as old:
        assert (await old.refresh(first)).json()["code"] == "refresh_token_invalid"


async def test_a_new_key_encryption_key_changes_no_token_while_replicas_restart_one_by_one(
    settings: Settings, redis: Any
) -> None:
    kids: set[str] = set()
    for before, after in pairwise(steps(settings, "key_encryption_key")):
        async with started(before) as one, started(after) as other:
            for signing, verifying_it in ((one, other), (other, one)):
                token = (await signing.sign_in())["access_token"]
                kids.add(kid_of(token))
                async with verifying_it.client(token) as client:
                    assert (await client.get("/auth/verify")).status_code == 204
    assert len(kids) == 1
    store = make_store(settings)
    with pytest.raises(KeysUnavailable):
        await make_keys(settings, store).load()
    await store.close()


async def test_a_new_key_encryption_key_keeps_the_sessions_in_use_and_every_client(
    settings: Settings, redis: Any
) -> None:
    first, accepting, using, done = steps(settings, "key_encryption_key")
    form = {"grant_type": "client_credentials"}
    async with started(first) as service:
        used, idle = await service.sign_in(), await service.sign_in()
        secret = await service.parts.clients.register("reports", set(), set())
        sealed = await redis.hget("auth:clients", "reports")
    async with started(accepting) as one, started(using) as other:
        used = (await other.refresh(used["refresh_token"])).json()
        used = (await one.refresh(used["refresh_token"])).json()
        async with asyncio.timeout(5):
            while await redis.hget("auth:clients", "reports") == sealed:
                await asyncio.sleep(0.01)
        response = await one.public.post("/auth/token", data=form, auth=("reports", secret))
        assert response.status_code == 200
        used = (await other.refresh(used["refresh_token"])).json()
    async with started(done) as service:
        assert (await service.refresh(used["refresh_token"])).status_code == 200
        # Hence the time that deploy/runbooks/keys.md waits before the second file is removed.
        assert (await service.refresh(idle["refresh_token"])).json()["code"] == "session_ended"
        response = await service.public.post("/auth/token", data=form, auth=("reports", secret))
        assert response.status_code == 200
