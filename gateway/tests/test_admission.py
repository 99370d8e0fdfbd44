"""Who may pass and how often: addresses and proxies, roles, limits, sockets of browsers, tokens nobody can check."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayUnderTest, running
from tests.test_exchange import is_problem, status
from tests.wire import get

LAST = b"Connection: close"
TABLE = """
[[routes]]
name = "echo.owners"
path = "/owners"
methods = ["GET"]
roles = ["owner", "admin"]

[[routes]]
name = "echo.few"
path = "/few"
methods = ["GET"]
limit = { rate = 1, per_seconds = 600, burst = 2 }

[[routes]]
name = "echo.moved"
path = "/things/{id}/*"
methods = ["GET"]
access = "public"
rewrite = "/v2/{rest}/of/{id}"

[[routes]]
name = "echo.chat"
path = "/chat"
methods = ["GET"]
websocket = true
cors = { origins = ["https://app.example"] }
"""
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
OPENING = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def bearer(gateway: GatewayUnderTest, **claims: Any) -> bytes:
    return b"Authorization: Bearer " + gateway.issuer.token(**claims).encode()


def crossed(gateway: GatewayUnderTest) -> bytes:
    return b"".join(gateway.upstream.got)


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"X-Client-IP"])
async def test_whoever_says_another_address_each_time_is_limited_like_anyone(
    tmp_path: Path, name: bytes
) -> None:
    async with running(tmp_path, address_rate=0.001, address_burst=5) as gateway:
        told = [await gateway.send(get(b"/public/a", LAST, name + b": 192.0.2.%d" % n)) for n in range(8)]
        assert [status(response) for response in told] == [200] * 5 + [429] * 3
        assert is_problem(told[-1], 429, b"address_limited")
        assert re.search(rb"\r\nRetry-After: [1-9]\d*\r\n", told[-1])
        assert b"192.0.2." not in crossed(gateway)
        assert crossed(gateway).count(b"\r\nX-Forwarded-For: 127.0.0.1\r\n") == 5


async def test_clients_behind_a_trusted_proxy_have_an_allowance_each(tmp_path: Path) -> None:
    """The rightmost address that is no trusted proxy's is the client; what stands left of it was said by the client."""
    bounds: dict[str, Any] = {
        "address_rate": 0.001,
        "address_burst": 3,
        "trusted_proxies": ("127.0.0.1/32", "10.0.0.0/8"),
    }
    async with running(tmp_path, **bounds) as gateway:
        for client in (b"192.0.2.1", b"192.0.2.2"):
            forged = [b"X-Forwarded-For: 203.0.113.%d, " % n + client + b", 10.0.0.1" for n in range(5)]
            told = [
                await gateway.send(get(b"/public/a", LAST, line, b"X-Forwarded-Proto: https"))
                for line in forged
            ]
            assert [status(response) for response in told] == [200] * 3 + [429] * 2
            assert crossed(gateway).count(b"\r\nX-Forwarded-For: " + client + b"\r\n") == 3
        assert b"203.0.113." not in crossed(gateway)
        assert crossed(gateway).count(b"\r\nX-Forwarded-Proto: https\r\n") == 6


async def test_a_scheme_is_believed_from_a_trusted_proxy_alone(gateway: GatewayUnderTest) -> None:
    await gateway.send(get(b"/public/a", LAST, b"X-Forwarded-Proto: https"))
    assert b"\r\nX-Forwarded-Proto: http\r\n" in crossed(gateway)
    assert crossed(gateway).lower().count(b"x-forwarded-proto") == 1


async def test_one_of_a_routes_roles_is_enough_and_none_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        refused = await gateway.send(get(b"/owners", LAST, bearer(gateway, roles=["guest"])))
        assert is_problem(refused, 403, b"insufficient_role"), refused
        assert b'"detail":"needs admin or owner"' in refused, "whoever asks for a role has to know which"
        assert gateway.upstream.got == []
        assert (
            status(await gateway.send(get(b"/owners", LAST, bearer(gateway, roles=["guest", "admin"]))))
            == 200
        )


async def test_a_missing_scope_is_named_as_services_name_it(gateway: GatewayUnderTest) -> None:
    refused = await gateway.send(get(b"/scoped", LAST, bearer(gateway, scope="other")))
    assert is_problem(refused, 403, b"insufficient_scope"), refused
    assert b'"scope":"things:read"' in refused
    challenge = (
        b'WWW-Authenticate: Bearer error="insufficient_scope", error_description="The token lacks a scope."'
    )
    assert challenge + b', scope="things:read"\r\n' in refused


async def test_a_caller_sees_an_allowance_shrink_and_another_has_one_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        ada = bearer(gateway, sub="ada")
        told = [await gateway.send(get(b"/few", LAST, ada)) for _ in range(3)]
        assert [status(response) for response in told] == [200, 200, 429]
        left = [re.search(rb'\r\nRateLimit: "echo.few";r=(\d+);t=\d+\r\n', response) for response in told]
        assert [found and found[1] for found in left] == [b"1", b"0", b"0"]
        assert all(b'\r\nRateLimit-Policy: "echo.few";q=1;w=600\r\n' in response for response in told)
        assert is_problem(told[2], 429, b"rate_limited")
        assert re.search(rb"\r\nRetry-After: [1-9]\d*\r\n", told[2])
        assert status(await gateway.send(get(b"/few", LAST, bearer(gateway, sub="eve")))) == 200


async def test_a_moved_path_reaches_its_service_where_the_route_says(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        assert status(await gateway.send(get(b"/things/7/a/b%20c?q=/things/8", LAST))) == 200
        assert crossed(gateway).startswith(b"GET /v2/a/b%20c/of/7?q=/things/8 HTTP/1.1\r\n")


async def test_an_id_and_a_trace_that_services_keep_are_kept_at_the_gateway_too(
    gateway: GatewayUnderTest,
) -> None:
    sent, trace = (
        b"X-Request-Id: load.1-" + b"a" * 100,
        b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    later = b"traceparent: cc-" + trace + b"-what-the-future-will-be-like"
    response = await gateway.send(get(b"/public/a", LAST, sent, later))
    assert b"\r\n" + sent + b"\r\n" in response
    for line in (sent, b"traceparent: 00-" + trace):
        assert b"\r\n" + line + b"\r\n" in crossed(gateway)


async def test_a_request_keeps_its_id_and_its_trace_if_they_are_such(gateway: GatewayUnderTest) -> None:
    trace = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = await gateway.send(get(b"/public/a", LAST, b"X-Request-Id: mine-1234", trace))
    assert b"\r\nX-Request-Id: mine-1234\r\n" in response
    for line in (trace, b"X-Request-Id: mine-1234"):
        assert b"\r\n" + line + b"\r\n" in crossed(gateway)
    gateway.upstream.got.clear()
    await gateway.send(get(b"/public/a", LAST, b"X-Request-Id: a b", b"traceparent: 00-0-0-1"))
    assert re.search(rb"\r\nX-Request-Id: [0-9a-f]{32}\r\n", crossed(gateway))
    assert re.search(rb"\r\ntraceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-00\r\n", crossed(gateway))


async def test_while_no_revocation_is_known_tokens_are_503_and_public_routes_live(tmp_path: Path) -> None:
    async with running(tmp_path, "redis://127.0.0.1:1/0") as gateway:
        response = await gateway.send(get(b"/private", LAST, bearer(gateway)))
        assert status(response) == 503
        assert b"\r\nRetry-After: " in response
        assert b"WWW-Authenticate" not in response
        assert gateway.upstream.got == []
        assert status(await gateway.send(get(b"/public/a", LAST))) == 200


@pytest.mark.parametrize(
    "origin",
    [b"https://app.example", b"HTTPS://App.Example:443", b"http://localhost", b"http://localhost:80", b""],
)
async def test_a_websocket_opens_for_its_own_origin_a_listed_one_and_who_is_no_browser(
    tmp_path: Path, origin: bytes
) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        gateway.upstream.response = SWITCH
        lines = (*OPENING, b"Origin: " + origin) if origin else OPENING
        response = await gateway.send(get(b"/chat", bearer(gateway), *lines), wait=1)
        assert response.startswith(b"HTTP/1.1 101 "), response


@pytest.mark.parametrize(
    ("host", "proto", "public", "origin"),
    [
        (b"api.example", b"wss", "http://x.example", b"https://api.example"),
        (b"api.example", b"https", "http://x.example", b"https://api.example:443"),
        (b"api.example:443", b"wss", "http://x.example", b"https://api.example"),
        (b"API.example:443", b"https", "http://x.example", b"https://api.example"),
        (b"api.example:80", b"ws", "http://x.example", b"http://api.example"),
        (b"api.example:8443", b"wss", "http://x.example", b"https://api.example:8443"),
        (b"[::1]:80", b"ws", "http://x.example", b"http://[::1]"),
        (b"gateway:8000", b"", "https://api.example", b"https://api.example"),
        (b"api.example", b"", "https://api.example", b"https://api.example"),
        (b"api.example", b"http", "https://api.example:443", b"https://api.example"),
    ],
)
async def test_a_page_of_our_own_opens_its_websocket_however_its_origin_is_told(
    tmp_path: Path, host: bytes, proto: bytes, public: str, origin: bytes
) -> None:
    async with running(
        tmp_path, table=TABLE, public_url=public, trusted_proxies=("127.0.0.1/32",)
    ) as gateway:
        gateway.upstream.response = SWITCH
        token = bearer(gateway, iss=public, aud=public)
        told = (token, *OPENING, b"Origin: " + origin, *([b"X-Forwarded-Proto: " + proto] if proto else []))
        raw = get(b"/chat", *told).replace(b"Host: localhost", b"Host: " + host)
        assert status(await gateway.send(raw, wait=1)) == 101
        for other in (origin + b"1", b"https://evil.example", b"null"):
            assert status(await gateway.send(raw.replace(b": " + origin, b": " + other), wait=1)) == 403, (
                other
            )


@pytest.mark.parametrize(
    "origins",
    [
        (b"https://evil.example",),
        (b"https://app.example.evil.example",),
        (b"http://app.example",),
        (b"https://localhost",),
        (b"null",),
        (b"",),
        (b"https://app.example", b"https://evil.example"),
    ],
)
async def test_a_page_of_an_origin_that_is_not_listed_opens_no_websocket(
    tmp_path: Path, origins: tuple[bytes, ...]
) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        gateway.upstream.response = SWITCH
        lines = (b"Origin: " + origin for origin in origins)
        response = await gateway.send(get(b"/chat", bearer(gateway), *OPENING, *lines))
        assert is_problem(response, 403, b"origin_refused"), response
        assert gateway.upstream.got == []


async def test_the_token_of_a_browsers_websocket_ends_here_and_the_other_subprotocols_cross(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        gateway.upstream.response = SWITCH[:-2] + b"Sec-WebSocket-Protocol: chat.v2\r\n\r\n"
        token = gateway.issuer.token().encode()
        offered = b"Sec-WebSocket-Protocol: chat.v2, bearer." + token + b", chat.v1"
        response = await gateway.send(
            get(b"/chat", *OPENING, b"Origin: https://app.example", offered), wait=1
        )
        assert response.startswith(b"HTTP/1.1 101 "), response
        assert b"\r\nSec-WebSocket-Protocol: chat.v2\r\n" in response
        assert b"\r\nSec-WebSocket-Protocol: chat.v2, chat.v1\r\n" in crossed(gateway)
        assert token not in crossed(gateway)


async def test_a_websocket_without_a_token_or_with_a_forged_one_is_a_401(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        gateway.upstream.response = SWITCH
        for lines in ((), (b"Sec-WebSocket-Protocol: bearer.forged",), (b"Authorization: Bearer forged",)):
            assert status(await gateway.send(get(b"/chat", *OPENING, *lines))) == 401
        assert gateway.upstream.got == []


async def test_what_a_client_says_before_the_switch_reaches_the_service_behind_it(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        gateway.upstream.response = SWITCH
        response = await gateway.send(get(b"/chat", bearer(gateway), *OPENING) + b"\x81\x80early", wait=1)
        assert response.startswith(b"HTTP/1.1 101 "), response
        assert crossed(gateway).partition(b"\r\n\r\n")[2] == b"\x81\x80early"


async def test_a_service_that_refuses_the_switch_ends_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        response = await gateway.send(get(b"/chat", bearer(gateway), *OPENING) + get(b"/public/smuggled"))
        assert response.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in response
        assert response.count(b"HTTP/1.1 ") == 1
        assert b"smuggled" not in crossed(gateway)


@pytest.mark.parametrize(
    "lines",
    [
        (b"Connection: Upgrade", b"Upgrade: h2c", *OPENING[2:]),
        (*OPENING[:2], b"Sec-WebSocket-Version: 8", OPENING[3]),
        OPENING[:3],
        (*OPENING, OPENING[3]),
        (*OPENING, b"Content-Length: 2"),
    ],
)
async def test_any_other_wish_to_switch_is_forwarded_as_a_plain_request(
    tmp_path: Path, lines: tuple[bytes, ...]
) -> None:
    async with running(tmp_path, table=TABLE) as gateway:
        body = b"ab" if lines[-1].startswith(b"Content-Length") else b""
        response = await gateway.send(get(b"/chat", bearer(gateway), *lines) + body)
        assert response.startswith(b"HTTP/1.1 200 "), response
        assert b"\r\nupgrade:" not in crossed(gateway).lower()
        assert b"\r\nconnection:" not in crossed(gateway).lower()
