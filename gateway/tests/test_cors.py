"""Cross-origin answers: what a browser is told before it sends a request, and with its answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import House, running

_TABLE = """
[[routes]]
name = "shared.thing"
path = "/shared"
methods = ["GET", "PUT"]
cors = { origins = ["https://app.example"], expose = ["etag"] }
"""


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "routes.toml").write_text(_TABLE)
    async with running(tmp_path) as house:
        yield house


def _preflight(origin: bytes) -> bytes:
    return (
        b"OPTIONS /shared HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: %b\r\n"
        b"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        % origin
    )


async def test_a_preflight_without_a_token_is_told_what_its_origin_may_send(shared: House) -> None:
    told = await shared.send(_preflight(b"https://app.example"))
    assert told.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in told
    assert b"\r\nAccess-Control-Allow-Methods: GET, PUT\r\n" in told
    assert b"\r\nAccess-Control-Allow-Headers: authorization, content-type\r\n" in told
    assert b"\r\nAccess-Control-Max-Age: 600\r\n" in told


async def test_a_preflight_from_a_strange_origin_is_told_nothing(shared: House) -> None:
    told = await shared.send(_preflight(b"https://evil.example"))
    assert told.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-" not in told
    assert b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n" in told


async def test_a_refusal_can_be_read_by_the_listed_origin_and_by_no_other(shared: House) -> None:
    for origin, allowed in ((b"https://app.example", True), (b"https://evil.example", False)):
        told = await shared.send(
            b"GET /shared HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: %b\r\n\r\n" % origin
        )
        assert told.startswith(b"HTTP/1.1 401 ")
        assert (b"\r\nAccess-Control-Allow-Origin: " + origin in told) is allowed
        assert (b"\r\nAccess-Control-Expose-Headers: etag" in told) is allowed
