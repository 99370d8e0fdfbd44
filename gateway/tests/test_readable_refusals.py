"""Every refusal that the gateway gives where the route can be known is one that a listed origin's script may read."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

import gateway
from service_kit.problems import Problem
from tests.conftest import GatewayUnderTest, running
from tests.wire import HOST, get

ORIGIN = b"Origin: https://app.example"
LAST = b"Connection: close"
TABLE = """
[[routes]]
name = "echo.open"
path = "/open"
methods = ["GET", "PUT"]
access = "public"
body_max_bytes = 3
first_byte_seconds = 0.3
idle_seconds = 0.3
consumes = ["text/plain"]
produces = ["text/plain"]
cors = { origins = ["https://app.example:443"], expose = ["retry-after"] }

[[routes]]
name = "echo.closed"
path = "/closed"
methods = ["GET"]
scopes = ["things:read"]
websocket = true
cors = { origins = ["https://app.example"] }

[[routes]]
name = "echo.owners"
path = "/owners"
methods = ["GET"]
roles = ["owner"]
cors = { origins = ["https://app.example"] }

[[routes]]
name = "echo.few"
path = "/few"
methods = ["GET"]
access = "public"
limit = { rate = 1, per_seconds = 600, burst = 1, by = "address" }
cors = { origins = ["https://app.example"] }

[[routes]]
name = "echo.options"
path = "/options"
methods = ["GET", "POST", "OPTIONS"]
access = "public"
cors = { origins = ["*"] }
"""


def ask(method: bytes, path: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    head = method + b" " + path + b" HTTP/1.1\r\n" + HOST + ORIGIN + b"\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


LONG = b"Content-Length: 4"
TEXT = b"Content-Type: text/plain"
REFUSALS = {
    "bad_request": ask(b"GET", b"/open", b"X_Under: 1"),
    "bad_request, before the origin": b"GET /open HTTP/1.1\r\nETag: a\r\neTag: b\r\n" + HOST + ORIGIN + b"\r\n\r\n",
    "bad_request, Host": b"GET /open HTTP/1.1\r\n" + ORIGIN + b"\r\n\r\n",
    "bad_request, Connection": ask(b"GET", b"/open", b"Connection: cookie"),
    "bad_framing": ask(b"PUT", b"/open", LONG, b"Transfer-Encoding: chunked"),
    "transfer_coding": ask(b"PUT", b"/open", b"Transfer-Encoding: gzip"),
    "headers_too_large": ask(b"GET", b"/open", *(b"X-%d: 1" % number for number in range(120))),
    "body_too_large": ask(b"PUT", b"/open", TEXT, LONG, body=b"four"),
    "body_too_large, as it comes": ask(
        b"PUT", b"/open", TEXT, b"Transfer-Encoding: chunked", body=b"4\r\nfour\r\n0\r\n\r\n"
    ),
    "expectation_failed": ask(b"PUT", b"/open", TEXT, b"Content-Length: 1", b"Expect: tea", body=b"1"),
    "loop_detected": ask(b"GET", b"/open", b"Via: 1.1 gatehouse"),
    "token_required": ask(b"GET", b"/closed"),
    "token_malformed": ask(b"GET", b"/closed", b"Authorization: Bearer none"),
    "invalid_request": ask(b"GET", b"/closed?access_token=a"),
    "insufficient_scope": ask(b"GET", b"/closed", b"Authorization: Bearer TOKEN"),
    "insufficient_role": ask(b"GET", b"/owners", b"Authorization: Bearer TOKEN"),
    "unsupported_media_type": ask(b"PUT", b"/open", b"Content-Type: a/b", b"Content-Length: 1", body=b"1"),
    "not_acceptable": ask(b"GET", b"/open", b"Accept: a/b"),
    "method_not_allowed": ask(b"DELETE", b"/open"),
    "method_not_allowed, to a preflight": ask(b"OPTIONS", b"/open", b"Access-Control-Request-Method: DELETE"),
    "rate_limited": ask(b"GET", b"/few") * 2,
    "bad_gateway": ask(b"PUT", b"/open"),
}  # fmt: skip
# What needs more than a request has a test of its own below.
APART = {
    "address_limited", "invalid_token", "cannot_verify", "upstream_timeout", "request_timeout"
}  # fmt: skip
WHY_NOT = {
    "no_route": "no route, no rules",
    "ambiguous_path": "the path leads nowhere",
    "uri_too_long": "the path is not read to its end",
    "method_not_implemented": "such a request line is no request",
    "origin_refused": "the origin is not listed",
    "upstream_unavailable": "as bad_gateway: the exchange refuses",
    "upstream_down": "as bad_gateway: the exchange refuses",
    "overloaded": "as bad_gateway: the exchange refuses",
}


def _codes(of: type[Problem] = Problem) -> Iterator[str]:
    for one in of.__subclasses__():
        if one.__module__.startswith("gateway."):
            yield one.code
        yield from _codes(one)


def test_no_refusal_is_forgotten_here() -> None:
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not module.name.endswith(("__main__", "gunicorn_conf")):
            importlib.import_module(module.name)
    tried = {name.partition(",")[0] for name in REFUSALS} | APART | {"token_malformed"}
    assert set(_codes()) <= tried | WHY_NOT.keys()


def read_by_the_page(response: bytes, code: str) -> None:
    head, _, body = response[response.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert f'"code":"{code}"'.encode() in body, response
    found = re.findall(rb"\r\nAccess-Control-Allow-Origin: (\S+)", head)
    assert found in ([b"https://app.example"], [b"*"]), response
    assert b"\r\nVary: Origin" in head
    dates = re.findall(rb"\r\nDate: ([^\r]+)", head)
    assert len(dates) == 1
    assert abs(parsedate_to_datetime(dates[0].decode()).timestamp() - time()) < 10


@pytest.fixture
async def page(tmp_path: Path) -> Any:
    async with running(tmp_path, table=TABLE, body_seconds=0.3) as gateway:
        yield gateway


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_script_of_a_listed_origin_can_read_why_it_was_refused(
    page: GatewayUnderTest, name: str
) -> None:
    raw = REFUSALS[name].replace(b"TOKEN", page.issuer.token(scope="other").encode())
    page.upstream.closes = 2 if name == "bad_gateway" else 0
    read_by_the_page(await page.send(raw), name.partition(",")[0])


@pytest.mark.parametrize("raw", [ask(b"GET", b"/open"), ask(b"GET", b"/open", b"X_Under: 1")])
async def test_so_can_a_script_from_an_address_that_asks_too_often(tmp_path: Path, raw: bytes) -> None:
    async with running(tmp_path, table=TABLE, address_rate=0.001, address_burst=1) as gateway:
        for _ in range(3):
            response = await gateway.send(raw)
        read_by_the_page(response, "address_limited")


async def test_so_can_a_script_while_nothing_can_be_verified(tmp_path: Path) -> None:
    async with running(tmp_path, "redis://127.0.0.1:1/0", table=TABLE) as gateway:
        token = b"Authorization: Bearer " + gateway.issuer.token().encode()
        response = await gateway.send(ask(b"GET", b"/closed", token))
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in response


async def test_so_can_a_script_whose_service_or_body_does_not_come(page: GatewayUnderTest) -> None:
    page.upstream.response = b""
    read_by_the_page(await page.send(ask(b"GET", b"/open")), "upstream_timeout")
    read_by_the_page(
        await page.send(ask(b"PUT", b"/open", TEXT, b"Content-Length: 3", body=b"1")), "request_timeout"
    )


async def test_another_origin_reads_none_of_them(page: GatewayUnderTest) -> None:
    for raw in REFUSALS.values():
        response = await page.send(raw.replace(b"https://app.example", b"https://app.example.evil"))
        assert b"Access-Control-Allow-Origin: https" not in response


async def test_a_request_whose_fields_cannot_be_relied_on_ends_its_connection_unread(
    page: GatewayUnderTest,
) -> None:
    response = await page.send(ask(b"PUT", b"/open", LONG, b"X_Under: 1", body=get(b"/open")) + get(b"/open"))
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in response
    assert page.upstream.got == []


async def test_an_options_that_is_no_preflight_is_told_what_the_path_takes(page: GatewayUnderTest) -> None:
    for lines in ((), (b"Authorization: Bearer none",), (b"Access-Control-Request-Method: GET",) * 2):
        response = await page.send(ask(b"OPTIONS", b"/closed", LAST, *lines))
        assert response.startswith(b"HTTP/1.1 204 "), response
        assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in response
        assert b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in response
        assert b"\r\nDate: " in response
    plain = await page.send(b"OPTIONS /closed HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert plain.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-" not in plain
    assert page.upstream.got == []


async def test_an_options_that_a_route_takes_is_the_services(page: GatewayUnderTest) -> None:
    assert (await page.send(ask(b"OPTIONS", b"/options", LAST))).startswith(b"HTTP/1.1 200 ")
    assert page.upstream.got[0].startswith(b"OPTIONS /options HTTP/1.1\r\n")
    preflight = ask(b"OPTIONS", b"/options", LAST, b"Access-Control-Request-Method: POST")
    assert (await page.send(preflight)).startswith(b"HTTP/1.1 204 ")
    assert len(page.upstream.got) == 1


async def test_an_options_of_a_path_that_nobody_has_is_404(page: GatewayUnderTest) -> None:
    assert (await page.send(ask(b"OPTIONS", b"/nowhere", LAST))).startswith(b"HTTP/1.1 404 ")


async def test_the_pages_of_the_gateway_carry_a_date_too(page: GatewayUnderTest) -> None:
    for path in (b"/docs", b"/openapi.json", b"/docs/start.js"):
        response = await page.send(get(path, LAST))
        assert len(re.findall(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", response)) == 1
