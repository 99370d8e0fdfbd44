"""The service as its callers meet it, with tokens of an issuer of its own."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from example_service.config import Settings
from example_service.main import create_app
from service_kit.authenticator import Authenticator
from service_kit.testing import TestIssuer

Client = Callable[[str | None], httpx.AsyncClient]


@pytest.fixture
def client(issuer: TestIssuer, tmp_path: Path) -> Client:
    """Makes a client that sends this token, or none."""
    settings = Settings(
        secrets_dir=tmp_path,
        public_url=issuer.url,
        jwks_url="http://localhost:1/jwks.json",
        revocations_redis_url="redis://localhost:1/0",
    )
    authenticator = Authenticator(settings, "example-service", fetch_keys=issuer.fetch_keys)
    authenticator.revocations.prove(time.time())
    transport = httpx.ASGITransport(create_app(settings, authenticator))

    def make(token: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://service:8000", headers=headers)

    return make
