"""Parts the tests share: an issuer, its keys, and a verifier that knows of no revocation yet."""

import time

import pytest

from service_kit.jwks import KeyCache
from service_kit.revocations import Revocations
from service_kit.testing import TestIssuer
from service_kit.tokens import Verifier


@pytest.fixture
async def keys(issuer: TestIssuer) -> KeyCache:
    cache = KeyCache(issuer.fetch_keys)
    assert await cache.refresh()
    return cache


@pytest.fixture
def revocations() -> Revocations:
    held = Revocations()
    held.prove(time.time())
    return held


@pytest.fixture
def verifier(keys: KeyCache, revocations: Revocations, issuer: TestIssuer) -> Verifier:
    return Verifier(keys, revocations, {issuer.url: None})
