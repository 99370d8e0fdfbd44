"""Authlib and requests-oauthlib, unmodified, against the service as gunicorn runs it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from conftest import SECRETS, make_settings
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient
from people import People
from requests_oauthlib import OAuth2Session

from auth_service.main import make_clients, make_store
from service_kit.testing import free_port

ADA: dict[str, Any] = {"username": "ada@example.com", "password": People.PASSWORD}


@pytest.fixture
async def url(redis_url: str, people: People, tmp_path: Path) -> AsyncIterator[str]:
    """The service's own address, which is also its issuer."""
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(f"{secret.get_secret_value()}\n")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "SECRETS_DIR": str(tmp_path),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "PUBLIC_PORT": str(port),
        "INTERNAL_PORT": str(free_port()),
        "REDIS_URL": redis_url,
        "LIMITS_REDIS_URL": redis_url,
        "REVOCATIONS_REDIS_URL": redis_url,
        "USERS_URL": people.url,
        "DRAIN_SECONDS": "0",
        "GRACEFUL_SECONDS": "2",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:auth_service.gunicorn_conf"]
    process = subprocess.Popen([*command, "auth_service.main:serve()"], env=environment)  # noqa: ASYNC220 - it returns at once
    try:
        await until_ready(environment["INTERNAL_PORT"], process)
        yield environment["PUBLIC_URL"]
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)


async def until_ready(port: str, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(30), httpx.AsyncClient() as http:
        while process.poll() is None:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the service ended")


@pytest.fixture
async def secret(url: str, redis_url: str, people: People, tmp_path: Path) -> str:
    """The secret of the client `reports`."""
    settings = make_settings(redis_url, people.url, tmp_path)
    store = make_store(settings)
    registered = await make_clients(settings, store).register("reports", {"users:read"}, {"user-service"})
    await store.close()
    return registered


async def test_authlib_discovers_signs_in_refreshes_introspects_and_revokes(url: str, secret: str) -> None:
    async with httpx.AsyncClient() as http:
        document = (await http.get(f"{url}/.well-known/oauth-authorization-server")).json()
    # Its validate() as a whole wants TLS and a response type: loopback has no TLS, and there is no /authorize.
    metadata: Any = AuthorizationServerMetadata(document)
    for each in ("grant_types_supported", "token_endpoint_auth_methods_supported"):
        getattr(metadata, f"validate_{each}")()
    assert metadata.issuer == url

    async with AsyncOAuth2Client("first-party", token_endpoint_auth_method="none") as person:
        token = await person.fetch_token(document["token_endpoint"], grant_type="password", **ADA)
        assert (await person.get(f"{url}/auth/verify")).status_code == 204
        renewed = await person.refresh_token(document["token_endpoint"])
        assert renewed["refresh_token"] != token["refresh_token"]

        async with AsyncOAuth2Client("reports", secret) as reports:
            own = await reports.fetch_token(document["token_endpoint"], grant_type="client_credentials")
            assert own["scope"] == "users:read"
            introspected = await reports.introspect_token(
                document["introspection_endpoint"], token=renewed["access_token"]
            )
            assert introspected.json()["active"] is True

        revoked = await person.revoke_token(document["revocation_endpoint"], token=renewed["refresh_token"])
        assert revoked.status_code == 200
        async with asyncio.timeout(2):
            while (await person.get(f"{url}/auth/verify")).status_code != 401:
                await asyncio.sleep(0.02)


async def test_requests_oauthlib_signs_in_refreshes_and_gets_a_clients_token(
    url: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # loopback has no TLS

    def person() -> None:
        with OAuth2Session(client=LegacyApplicationClient("first-party")) as session:
            token = session.fetch_token(f"{url}/auth/token", include_client_id=True, **ADA)
            assert session.get(f"{url}/auth/verify").status_code == 204
            renewed = session.refresh_token(f"{url}/auth/token", client_id="first-party")
            assert renewed["refresh_token"] != token["refresh_token"]
            assert session.get(f"{url}/auth/verify").status_code == 204
            response = requests.post(f"{url}/auth/revoke", {"token": renewed["access_token"]}, timeout=5)
            assert response.status_code == 200

    def client() -> None:
        with OAuth2Session(client=BackendApplicationClient("reports")) as session:
            token = session.fetch_token(f"{url}/auth/token", auth=("reports", secret))
            assert token["scope"] == ["users:read"]
            assert "refresh_token" not in token

    await asyncio.to_thread(person)
    await asyncio.to_thread(client)
