"""The service against a real Redis and a user-service of real shape over HTTP; nothing is patched."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from asgi_lifespan import running
from canary import Canary
from people import People, serve_people
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp

from auth_service.config import Settings
from auth_service.main import Parts, create_app, make_parts
from service_kit import testing
from service_kit.testing.documented import Documented

ISSUER = "http://localhost:8080"
SECRETS = {
    "refresh_key": SecretStr("a refresh key of the tests, long enough"),
    "key_encryption_key": SecretStr("a key encryption key of the tests, long enough"),
    "device_key": SecretStr("a device key of the tests, long enough"),
}


def pytest_xdist_auto_num_workers() -> int:
    """Tests mostly wait, so two at a time, each with a Redis of its own; alone where there is one for all."""
    return 0 if "TEST_REDIS_URL" in os.environ else 2


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    """One for all that a process runs, from its first test until its last part has stopped."""
    listening = Canary()
    listening.listen()
    yield listening
    assert not listening.heard


@pytest.fixture(autouse=True)
def no_secret_is_ever_logged(canary: Canary) -> Iterator[None]:
    """Part of every test: what was logged meanwhile holds no token, password or address."""
    yield
    heard, canary.heard = canary.heard, []
    assert not heard


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[str]:
    """One server for every test that does not break it; the container's in `-m containers`."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    with testing.redis_server(appendonly=True) as server:
        yield server.url


@pytest.fixture
async def redis_url(shared_redis: str) -> AsyncIterator[str]:
    """An empty Redis."""
    async with Redis.from_url(shared_redis) as redis:
        await redis.flushall()
    yield shared_redis


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="session")
async def people_server() -> AsyncIterator[People]:
    async with serve_people() as people:
        yield people


@pytest.fixture
def people(people_server: People) -> People:
    """The fake user-service, with nobody in it."""
    people_server.reset()
    return people_server


@pytest.fixture
def settings(redis_url: str, people: People, tmp_path: Path) -> Settings:
    return make_settings(redis_url, people.url, tmp_path)


def make_settings(redis_url: str, users_url: str, folder: Path, **changes: Any) -> Settings:
    usual = {
        "secrets_dir": folder,
        "public_url": ISSUER,
        "redis_url": redis_url,
        "limits_redis_url": redis_url,
        "revocations_redis_url": redis_url,
        "users_url": users_url,
        "gateway_peers": "127.0.0.1",
        **SECRETS,
    }
    return Settings(**{**usual, **changes})


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Any]:
    from stores import running_stores  # which needs what stands here

    with running_stores(tmp_path) as running_servers:
        yield running_servers


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., list[dict[str, Any]]]:
    """The audit's events so far, in order; of one actor if named."""
    caplog.set_level(logging.INFO, "auth_service.audit")

    def events(actor: str | None = None) -> list[dict[str, Any]]:
        records = [vars(record) for record in caplog.records if record.name == "auth_service.audit"]
        return [record for record in records if actor in (None, record["actor"])]

    return events


DOCUMENTED = Documented(Path(__file__).parents[1] / "contract" / "openapi.json")


class Service:
    """The running service as its callers meet it, and its parts."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self.parts = parts
        self.app = app
        self.public = self.client()
        self.internal = self.client(port=9000)

    def client(self, token: str | None = None, *, port: int = 8000, address: str = "") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if address:
            headers["x-forwarded-for"] = address
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=f"http://auth:{port}",
            headers=headers,
            event_hooks={"response": [DOCUMENTED] if port == 8000 else []},
        )

    async def token(self, **form: str) -> httpx.Response:
        return await self.public.post("/auth/token", data=form)

    async def sign_in(self, email: str = "ada@example.com", **form: str) -> dict[str, Any]:
        response = await self.token(grant_type="password", username=email, password=People.PASSWORD, **form)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def refresh(self, refresh_token: str, **form: str) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)

    @staticmethod
    def session_of(access_token: str) -> str:
        return str(jwt.decode(access_token, options={"verify_signature": False})["sid"])

    async def until_refused(self, token: str, code: str) -> None:
        """Wait until the service's own verifier refuses the token, for that reason."""
        async with asyncio.timeout(2), self.client(token) as client:
            while (response := await client.get("/auth/verify")).status_code != 401:
                await asyncio.sleep(0.01)
        assert response.json()["code"] == code


Start = Callable[[Settings], Any]


@asynccontextmanager
async def started(settings: Settings, *, ready: bool = True) -> AsyncIterator[Service]:
    """A service, and one that is ready if it is to be, until the block ends."""
    parts = make_parts(settings)
    app = create_app(settings, parts)
    async with running(app):
        service = Service(app, parts)
        async with asyncio.timeout(5):
            while ready and (await service.internal.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
        yield service


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with started(settings) as running_service:
        yield running_service
