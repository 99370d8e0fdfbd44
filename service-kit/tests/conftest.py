"""Parts the tests share: an issuer, its keys, and a verifier that knows of no revocation yet."""

import time
from collections.abc import Callable

import pytest

from service_kit.jwks import KeyCache
from service_kit.revocations import Revocations
from service_kit.testing import TestIssuer
from service_kit.tokens import Verifier

Promise = Callable[[str, float, float], None]
PROMISES: list[str] = []


@pytest.fixture
def promise() -> Promise:
    """Hold a figure to what is promised; every row stands at the end of the run."""

    def hold(row: str, seconds: float, at_most: float) -> None:
        PROMISES.append(f"{row}: {seconds:.2f} s, at most {at_most:g} s")
        assert seconds <= at_most

    return hold


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PROMISES:
        terminalreporter.section("promises")
        terminalreporter.write("".join(f"{row}\n" for row in PROMISES))


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
