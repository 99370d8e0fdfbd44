"""Requests over a raw socket: what is refused, what crosses, and as what."""

import asyncio
import logging
import re
from pathlib import Path

import pytest

from tests.conftest import GatewayUnderTest, running
from tests.process import connected, until
from tests.wire import HOST, get


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /public/a HTTP/1.1\r\n\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET /public/a HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET  /public/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\n\r\nGET /public/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a RTSP/1.0\r\n" + HOST + b"\r\n",
        b"GET /public/a HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /public/a#b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/%2e%2e/private HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/../private HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public//a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a%2fb HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a;b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /%70rivate HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + b"A_B: c\r\n\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n",
        b"GET /public/a HTTP/1.1\n" + HOST + b"\r\n",
        b"GET /public/a HTTP/1.1\r\n" + HOST + b"Connection: authorization\r\n\r\n",
        b"POST /public/a HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /public/a HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /public/a HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na",
        b"POST /public/a HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_goes_nowhere(
    gateway: GatewayUnderTest, raw: bytes
) -> None:
    response = await gateway.send(raw)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in response
    assert gateway.upstream.got == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414"),
        (b"GET /public/a HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 17000 + b"\r\n\r\n", b"431"),
        (b"GET /public/a HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n", b"431"),
        (b"POST /public/a HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n", b"413"),
        (b"POST /public/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"POST /public/a HTTP/1.1\r\n" + HOST + b"Expect: tea\r\nContent-Length: 1\r\n\r\na", b"417"),
        (b"DELETE /public/a HTTP/1.1\r\n" + HOST + b"\r\n", b"405"),
        (b"TRACE /public/a HTTP/1.1\r\n" + HOST + b"\r\n", b"405"),
        (b"QUERY /elsewhere HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"BREW /public/a HTTP/1.1\r\n" + HOST + b"\r\n", b"501"),
        (b"GET /elsewhere HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET /public/a HTTP/1.1\r\n" + HOST + b"Via: 1.1 gatehouse\r\n\r\n", b"508"),
    ],
)
async def test_what_is_over_a_bound_or_unknown_gets_its_status(
    gateway: GatewayUnderTest, raw: bytes, status: bytes
) -> None:
    response = await gateway.send(raw)
    assert response[9:12] == status
    assert b"\r\nContent-Type: application/problem+json\r\n" in response
    assert re.search(rb'\r\n\r\n\{.*"code":"\w+".*"request_id":"\w+"', response)
    assert gateway.upstream.got == []


async def test_a_public_request_crosses_without_what_a_client_may_not_say(gateway: GatewayUnderTest) -> None:
    lines = (
        b"X-User-Id: 7\r\nX-Forwarded-For: 9.9.9.9\r\nConnection: x-odd\r\nX-Odd: 1\r\nAccept: a/b\r\n\r\n"
    )
    response = await gateway.send(b"GET /public/a?q=%20 HTTP/1.1\r\n" + HOST + lines)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"ok")
    request = b"".join(gateway.upstream.got)
    assert request.startswith(b"GET /public/a?q=%20 HTTP/1.1\r\n")
    assert request.count(b"X-Forwarded-For: ") == 1
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in request
    assert b"X-User-Id" not in request
    assert b"X-Odd" not in request
    assert b"Accept: a/b\r\n" in request


async def test_a_private_route_wants_a_token_and_takes_a_good_one(gateway: GatewayUnderTest) -> None:
    refused = await gateway.send(b"GET /private HTTP/1.1\r\n" + HOST + b"\r\n")
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Bearer\r\n" in refused
    forged = gateway.issuer.token()[:-6].encode() + b"AAAAAA"
    refused = await gateway.send(
        b"GET /private HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + forged + b"\r\n\r\n"
    )
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert (
        b'error="invalid_token", error_description="The token\'s signature is wrong. Send the token unchanged.'
        in refused
    )
    assert gateway.upstream.got == []
    token = gateway.issuer.token().encode()
    passed = await gateway.send(
        b"GET /private HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token + b"\r\n\r\n"
    )
    assert passed.startswith(b"HTTP/1.1 200 ")


async def test_a_token_without_the_scope_is_told_which(gateway: GatewayUnderTest) -> None:
    token = gateway.issuer.token(scope="other").encode()
    response = await gateway.send(
        b"GET /scoped HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token + b"\r\n\r\n"
    )
    assert response.startswith(b"HTTP/1.1 403 ")
    assert b'scope="things:read"' in response


async def test_pipelined_requests_are_answered_in_order(gateway: GatewayUnderTest) -> None:
    one = b"GET /public/a HTTP/1.1\r\n" + HOST + b"\r\n"
    response = await gateway.send(one + b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n" + one)
    assert [line[9:12] for line in response.split(b"\r\n") if line.startswith(b"HTTP/1.1")] or response
    assert response.count(b"HTTP/1.1 200") == 2
    assert response.count(b"HTTP/1.1 404") == 1
    assert response.index(b"200") < response.index(b"404") < response.rindex(b"200")


async def test_who_sends_a_thousand_requests_at_once_keeps_nobody_waiting(
    gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    async with (
        connected(gateway.port) as (many, many_writer),
        connected(gateway.port) as (other, other_writer),
    ):
        for reader, writer in ((many, many_writer), (other, other_writer)):
            writer.write(get(b"/nowhere"))
            await reader.readuntil(b"}")
        many_writer.write(get(b"/nowhere/many") * 1000 + get(b"/nowhere/many", b"Connection: close"))
        other_writer.write(get(b"/nowhere/other"))
        assert (await many.read()).count(b"HTTP/1.1 404 ") == 1001
        await until(lambda: caplog.text.count("/nowhere/many") == 1001, 5)
    first = caplog.text.partition("/nowhere/other")[0]
    assert first.count("/nowhere/many") < 10


async def test_of_a_client_that_does_not_read_few_requests_are_held(tmp_path: Path) -> None:
    async with (
        running(tmp_path, sends=4096) as gateway,
        connected(gateway.port, receives=4096) as (reader, writer),
    ):
        writer.write(get(b"/nowhere") * 20_000)
        await asyncio.sleep(0.5)  # nothing tells that it is too late to read
        got = await asyncio.wait_for(reader.read(), 10)
    assert 1 <= got.count(b"HTTP/1.1 404 ") < 20_000


async def test_a_client_that_ends_its_half_behind_many_requests_hears_of_all_of_them(
    gateway: GatewayUnderTest,
) -> None:
    async with connected(gateway.port) as (reader, writer):
        writer.write(get(b"/nowhere") * 1000)
        writer.write_eof()
        assert (await reader.read()).count(b"HTTP/1.1 404 ") == 1000


async def test_a_chunked_body_crosses_and_is_framed_again(gateway: GatewayUnderTest) -> None:
    body = b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    response = await gateway.send(
        b"POST /public/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body
    )
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"".join(gateway.upstream.got).endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_an_answer_with_two_readings_is_a_502(gateway: GatewayUnderTest, response: bytes) -> None:
    gateway.upstream.response = response
    got = await gateway.send(b"GET /public/a HTTP/1.1\r\n" + HOST + b"\r\n")
    assert got.startswith(b"HTTP/1.1 502 ")
    assert b'"request_id"' in got


async def test_head_gets_the_length_and_no_body(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    got = await gateway.send(b"HEAD /public/a HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"Content-Length: 2\r\n" in got
    assert got.endswith(b"\r\n\r\n")


async def test_an_answer_in_pieces_arrives_once(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = [b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\n", b"ab", b"cd"]
    got = await gateway.send(b"GET /public/a HTTP/1.1\r\n" + HOST + b"\r\n")
    assert got.count(b"HTTP/1.1") == 1
    assert got.endswith(b"\r\n\r\nabcd")


async def test_a_refused_token_is_told_why(gateway: GatewayUnderTest) -> None:
    token = gateway.issuer.token(iat=1, exp=300).encode()
    got = await gateway.send(
        b"GET /private HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token + b"\r\n\r\n"
    )
    assert b'"code":"token_expired"' in got
