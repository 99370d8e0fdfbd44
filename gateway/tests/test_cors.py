"""Cross-origin answers: what a browser is told before it sends a request, and with its answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config import RouteSettings
from tests.conftest import GatewayUnderTest, running

_TABLE = """
[[routes]]
name = "shared.thing"
path = "/shared"
methods = ["GET", "PUT"]
cors = { origins = ["https://app.example"], expose = ["etag"] }
"""


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[GatewayUnderTest]:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "routes.toml").write_text(_TABLE)
    async with running(tmp_path) as gateway:
        yield gateway


def _preflight(origin: bytes) -> bytes:
    return (
        b"OPTIONS /shared HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: %b\r\n"
        b"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        % origin
    )


async def test_a_preflight_without_a_token_is_told_what_its_origin_may_send(shared: GatewayUnderTest) -> None:
    told = await shared.send(_preflight(b"https://app.example"))
    assert told.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in told
    assert b"\r\nAccess-Control-Allow-Methods: GET, PUT\r\n" in told
    assert b"\r\nAccess-Control-Allow-Headers: authorization, content-type\r\n" in told
    assert b"\r\nAccess-Control-Max-Age: 600\r\n" in told


async def test_a_preflight_from_a_strange_origin_is_told_nothing(shared: GatewayUnderTest) -> None:
    told = await shared.send(_preflight(b"https://evil.example"))
    assert told.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-" not in told
    assert b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n" in told


async def test_a_refusal_can_be_read_by_the_listed_origin_and_by_no_other(shared: GatewayUnderTest) -> None:
    for origin, allowed in ((b"https://app.example", True), (b"https://evil.example", False)):
        told = await shared.send(
            b"GET /shared HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: %b\r\n\r\n" % origin
        )
        assert told.startswith(b"HTTP/1.1 401 ")
        assert (b"\r\nAccess-Control-Allow-Origin: " + origin in told) is allowed
        assert (b"\r\nAccess-Control-Expose-Headers: etag" in told) is allowed


async def asked(gateway: GatewayUnderTest, method: bytes, path: bytes, origin: bytes, *lines: bytes) -> bytes:
    headers = b"".join(
        line + b"\r\n" for line in (b"Host: a", b"Connection: close", b"Origin: " + origin, *lines)
    )
    return await gateway.send(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, headers))


@pytest.fixture
async def listing(tmp_path: Path) -> AsyncIterator[GatewayUnderTest]:
    """A gateway with one setting for all routes, one of which has rules of its own."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "routes.toml").write_text(_TABLE)
    async with running(tmp_path, cors_origins=("https://front.example:443", "loopback")) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (b"GET", b"/public/x", b"200"),
        (b"GET", b"/private", b"401"),
        (b"DELETE", b"/private", b"405"),
        (b"GET", b"/nothing", b"404"),
        (b"GET", b"/openapi.json", b"200"),
        (b"GET", b"/healthz", b"200"),
    ],
)
@pytest.mark.parametrize("origin", [b"https://front.example", b"http://localhost:5173", b"http://[::1]:3000"])
async def test_one_setting_lets_a_front_end_read_every_answer(
    listing: GatewayUnderTest, method: bytes, path: bytes, status: bytes, origin: bytes
) -> None:
    response = await asked(listing, method, path, origin)
    assert response.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nAccess-Control-Allow-Origin: " + origin + b"\r\n" in response
    assert b"\r\nAccess-Control-Expose-Headers: *" in response
    assert b"\r\nVary: Origin" in response
    assert b"Allow-Credentials" not in response


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"http://front.example",
        b"https://front.example.evil",
        b"http://localhost.evil",
        b"http://evil@localhost",
        b"http://127.0.0.1.evil:80",
        b"file://localhost",
        b"null",
    ],
)
async def test_one_setting_says_nothing_to_any_other_origin(listing: GatewayUnderTest, origin: bytes) -> None:
    for method in (b"GET", b"OPTIONS"):
        response = await asked(
            listing,
            method,
            b"/public/x",
            origin,
            *[b"Access-Control-Request-Method: GET"] * (method != b"GET"),
        )
        assert b"\r\nAccess-Control-" not in response
        assert b"\r\nVary: Origin" in response


async def test_a_routes_own_rules_win_over_the_setting(listing: GatewayUnderTest) -> None:
    for method in (b"GET", b"DELETE"):
        response = await asked(listing, method, b"/shared", b"https://front.example")
        assert b"Access-Control-Allow-Origin" not in response
    response = await asked(listing, b"GET", b"/shared", b"https://app.example")
    assert b"\r\nAccess-Control-Expose-Headers: etag\r\n" in response


@pytest.mark.parametrize("path", [b"/private", b"/openapi.json"])
async def test_one_setting_answers_a_preflight_for_any_header_and_without_a_token(
    listing: GatewayUnderTest, path: bytes
) -> None:
    preflight = (
        b"Access-Control-Request-Method: GET",
        b"Access-Control-Request-Headers: authorization,x-own",
    )
    response = await asked(listing, b"OPTIONS", path, b"http://localhost:5173", *preflight)
    assert response.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-Methods: GET\r\n" in response
    assert b"\r\nAccess-Control-Allow-Headers: *, authorization\r\n" in response


@pytest.mark.parametrize(("path", "status"), [(b"/nothing", b"404"), (b"/private", b"405")])
async def test_a_preflight_for_what_is_not_served_lets_the_script_read_the_refusal(
    listing: GatewayUnderTest, path: bytes, status: bytes
) -> None:
    origin = b"http://127.0.0.1:5173"
    told = await asked(listing, b"OPTIONS", path, origin, b"Access-Control-Request-Method: DELETE")
    assert told.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-Methods: DELETE\r\n" in told
    refused = await asked(listing, b"DELETE", path, origin)
    assert refused.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nAccess-Control-Allow-Origin: " + origin in refused
    # A made-up method is not repeated.
    odd = await asked(listing, b"OPTIONS", path, origin, b"Access-Control-Request-Method: A, B")
    assert odd.startswith(b"HTTP/1.1 " + status)


async def test_a_page_of_a_listed_origin_may_open_a_websocket(listing: GatewayUnderTest) -> None:
    upgrade = (
        b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Authorization: Bearer " + listing.issuer.token().encode(),
    )  # fmt: skip
    for origin, refused in ((b"http://localhost:5173", False), (b"https://evil.example", True)):
        headers = b"".join(line + b"\r\n" for line in (b"Host: a", b"Connection: Upgrade", *upgrade))
        response = await listing.send(b"GET /socket HTTP/1.1\r\n%bOrigin: %b\r\n\r\n" % (headers, origin))
        assert (b"origin_refused" in response) is refused


async def test_without_the_setting_nobody_is_told_anything(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        response = await asked(gateway, b"GET", b"/public/x", b"http://localhost:5173")
    assert b"Access-Control" not in response
    assert RouteSettings().cors is None


@pytest.mark.parametrize(
    "listed", ["*", "app.example", "https://app.example/", "https://APP.example", "null"]
)
def test_what_is_no_origin_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f"https://app.example, {listed}")
    with pytest.raises(ValidationError, match="origin"):
        RouteSettings()


def test_origins_are_listed_with_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://app.example:443, http://localhost:5173")
    assert RouteSettings().cors_origins == ("https://app.example", "http://localhost:5173")
