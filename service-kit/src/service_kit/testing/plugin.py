"""The fixtures of service_kit.testing, loaded by pytest itself."""

from collections.abc import Iterator

import pytest

from service_kit import testing


@pytest.fixture(scope="session")
def issuer() -> testing.TestIssuer:
    """One issuer for the whole run."""
    return testing.TestIssuer()


@pytest.fixture
def redis_server() -> Iterator[testing.RedisServer]:
    """A server of one's own."""
    with testing.redis_server() as server:
        yield server


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    return testing.free_port()
