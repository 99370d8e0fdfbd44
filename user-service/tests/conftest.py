"""A service of its own for every test: on SQLite, and with `-m containers` on MySQL."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiosmtpd.smtp import SMTP
from argon2 import PasswordHasher
from inbox import Inbox, Post
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from starlette.types import ASGIApp
from system import MySQLDatabase

from service_kit.authenticator import Authenticator
from service_kit.testing import TestIssuer
from service_kit.testing.documented import Documented
from user_service.config import Settings
from user_service.main import Parts, create_app, make_parts
from user_service.migrations.__main__ import upgrade

PASSWORD = "correct horse battery staple"


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.containers)])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table; of its own for every test."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"
        return
    database = MySQLDatabase(make_url(os.environ["TEST_MYSQL_URL"]), tmp_path / "database-secrets")
    try:
        yield database.owner.render_as_string(False)
    finally:
        database.remove()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once: each test on SQLite gets a copy."""
    path = tmp_path_factory.mktemp("migrated") / "users.db"
    upgrade(make_url(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
def database_url(empty_database: str, migrated_file: Path) -> str:
    """The URL of a database that is migrated."""
    url = make_url(empty_database)
    if url.get_backend_name() == "sqlite":
        shutil.copy(migrated_file, str(url.database))
    else:
        upgrade(url)
    return empty_database


@pytest.fixture
def serving_url(database_url: str) -> str:
    """The same database as the service sees it: on MySQL by the user who may change rows alone."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return database_url
    return url.set(username=str(url.username).removesuffix("_owner")).render_as_string(False)


@pytest.fixture
def settings(serving_url: str, tmp_path: Path) -> Settings:
    return Settings(
        secrets_dir=tmp_path / "no-secrets",
        database_url=serving_url,
        public_url="http://localhost:8080",
        jwks_url="http://localhost:1/jwks.json",
        revocations_redis_url="redis://localhost:1/0",
        events_redis_url="redis://localhost:1/0",
        idempotency_key=SecretStr("a server key of the tests"),
        hashing_threads=2,
        avatars_dir=tmp_path / "avatars",
        smtp_host="127.0.0.1",
        database_deadline_seconds=10,
        revocation_ceiling_seconds=3600,  # nothing is proved again, however long a busy machine takes for a test
    )


@pytest.fixture
def hasher() -> PasswordHasher:
    """Next to nothing a hash: what a real one costs matters in the few files that have it."""
    return PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)


@pytest.fixture
async def parts(settings: Settings, hasher: PasswordHasher) -> AsyncIterator[Parts]:
    made = make_parts(settings, hasher)
    yield made
    await made.close()


@pytest.fixture
def authenticator(settings: Settings, issuer: TestIssuer) -> Authenticator:
    async def fetch_keys() -> dict[str, Any]:
        return issuer.jwks()

    made = Authenticator(settings, "user-service", fetch_keys=fetch_keys)
    made.revocations.prove(time.time())
    return made


@pytest.fixture
async def app(settings: Settings, parts: Parts, authenticator: Authenticator) -> AsyncIterator[ASGIApp]:
    yield create_app(settings, parts, authenticator)


DOCUMENTED = Documented(Path(__file__).parents[1] / "contract" / "openapi.json")


@dataclass
class Person:
    """Somebody who registered, and the client they use."""

    id: UUID
    email: str
    client: httpx.AsyncClient
    etag: str


class Service:
    """The service as its callers meet it."""

    def __init__(self, app: ASGIApp, issuer: TestIssuer) -> None:
        self._app = app
        self._issuer = issuer
        self.anonymous = self.client()

    def client(self, token: str | None = None, *, port: int = 8000) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self._app)
        return httpx.AsyncClient(
            transport=transport,
            base_url=f"http://users:{port}",
            headers=headers,
            event_hooks={"response": [DOCUMENTED] if port == 8000 else []},
        )

    async def register(self, email: str | None = None, name: str = "Ada", **headers: str) -> Person:
        email = email or f"{uuid4().hex}@example.com"
        body = {"email": email, "name": name, "password": PASSWORD}
        response = await self.anonymous.post("/v1/users", json=body, headers=headers)
        assert response.status_code == 201, response.text
        id_ = UUID(response.json()["id"])
        return Person(id_, email, self.client(self._issuer.token(sub=str(id_))), response.headers["etag"])

    def admin(self) -> httpx.AsyncClient:
        return self.client(self._issuer.token(roles=["admin"]))

    def auth_service(self, scope: str = "credentials:verify users:read") -> httpx.AsyncClient:
        return self.client(self._issuer.service_token("user-service", scope), port=9000)

    async def verify(self, email: str, password: str = PASSWORD) -> dict[str, Any]:
        response = await self.auth_service().post(
            "/internal/v1/credentials/verify", json={"email": email, "password": password}
        )
        assert response.status_code == 200, response.text
        verdict: dict[str, Any] = response.json()
        return verdict


@pytest.fixture
def service(app: ASGIApp, issuer: TestIssuer) -> Service:
    return Service(app, issuer)


@pytest.fixture(scope="session")
def django() -> None:
    """A real Django with its user model, as the system that people come from."""
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture
async def post(parts: Parts) -> AsyncIterator[Post]:
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(inbox, enable_SMTPUTF8=True, loop=asyncio.get_running_loop()), "127.0.0.1", 0
    )
    made = Post(parts, server.sockets[0].getsockname()[1])
    made.inbox = inbox
    yield made
    server.close()
