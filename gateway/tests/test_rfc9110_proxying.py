"""What RFC 9110 and 9112 leave to a proxy's care, clause by clause, over a raw socket and with a recording upstream."""

import asyncio
import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.conftest import GatewayUnderTest
from tests.wire import HOST, get, post

STATUS_LINE = re.compile(rb"HTTP/1\.1 \d{3} ")


class BreaksOff(list[bytes]):
    """An answer's pieces; then the upstream's connection is lost."""

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__()
        raise ConnectionError


async def refused(gateway: GatewayUnderTest, raw: bytes, *statuses: bytes) -> None:
    """One answer, with one of these statuses, then the end; and nothing went upstream."""
    response = await gateway.send(raw)
    assert response[9:12] in statuses, (raw, response)
    assert len(STATUS_LINE.findall(response)) == 1, (raw, response)
    assert gateway.upstream.got == [], raw


async def crossed(gateway: GatewayUnderTest, raw: bytes) -> bytes:
    """What the upstream got of a request that is answered with 200."""
    gateway.upstream.got.clear()
    response = await gateway.send(raw)
    assert response.startswith(b"HTTP/1.1 200 "), (raw, response)
    return b"".join(gateway.upstream.got)


@pytest.mark.parametrize(
    "name", [b"Host", b"authorization", b"CONTENT-LENGTH", b"Cookie", b"If-Match", b"Idempotency-Key"]
)
async def test_connection_may_not_name_a_field_the_service_decides_by(
    gateway: GatewayUnderTest, name: bytes
) -> None:
    await refused(gateway, get(b"/public/a", b"Connection: close, " + name), b"400")
    await refused(gateway, get(b"/public/a", b"Connection: close", b"Connection: " + name), b"400")


async def test_hop_by_hop_fields_end_here_even_when_they_name_each_other(gateway: GatewayUnderTest) -> None:
    request = await crossed(
        gateway,
        get(
            b"/public/a",
            b"Connection: close, Keep-Alive, via, x-forwarded-for, x-request-id",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"TE: trailers",
            b"Trailer: X-Sum",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            b"Via: 1.1 before",
        ),
    )
    lower = request.lower()
    for name in (b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings"):
        assert b"\r\n" + name + b":" not in lower
    assert b"\r\nVia: 1.1 gatehouse\r\n" in request, "our own fields are added last"
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in request
    assert b"\r\nX-Request-Id: " in request


@pytest.mark.parametrize(
    "coding",
    [
        b"gzip",
        b"chunked, chunked",
        b"gzip, chunked",
        b"chunked;a=b",
        b"xchunked",
        b"identity",
        b"",
        b"\x0bchunked",
    ],
)
async def test_a_transfer_coding_other_than_chunked_is_refused_and_closes(
    gateway: GatewayUnderTest, coding: bytes
) -> None:
    body = b"0\r\n\r\n" + get(b"/public/smuggled")
    await refused(gateway, post(b"Transfer-Encoding: " + coding, body=body), b"400", b"501")


@pytest.mark.parametrize(
    "lines",
    [
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: 5 5",),
        (b"Content-Length:",),
        (b"Content-Length: 99999999999999999999",),
        (b"Transfer-Encoding : chunked",),
    ],
)
async def test_a_body_of_unclear_length_is_refused_and_what_follows_is_not_read(
    gateway: GatewayUnderTest, lines: tuple[bytes, ...]
) -> None:
    await refused(gateway, post(*lines, body=b"0\r\n\r\n" + get(b"/public/smuggled")), b"400", b"501")


async def test_a_broken_chunk_is_refused(gateway: GatewayUnderTest) -> None:
    for body in (b"zz\r\n", b"-1\r\n", b"1\r\nab\r\n0\r\n\r\n", b"1\nab\n0\n\n", b"ffffffffffffffffff\r\n"):
        response = await gateway.send(post(b"Transfer-Encoding: chunked", body=body))
        assert response.startswith(b"HTTP/1.1 400 "), (body, response)
        assert response.count(b"HTTP/1.1 ") == 1
    assert not any(b"0\r\n\r\n" in data.partition(b"\r\n\r\n")[2] for data in gateway.upstream.got)


async def test_a_host_that_is_not_one_is_refused(gateway: GatewayUnderTest) -> None:
    for host in (b"", b"a,b", b"a/b", b"user@a", b"a:b", b"[::1", b"a?b", b"a:80:80"):
        await refused(gateway, b"GET /public/a HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", b"400")
    await refused(gateway, b"GET /public/a HTTP/1.0\r\n\r\n", b"400")


async def test_the_authority_of_an_absolute_target_replaces_host(gateway: GatewayUnderTest) -> None:
    request = await crossed(gateway, get(b"http://meant.example:81/public/a?b=c", b"Connection: close"))
    assert request.startswith(b"GET /public/a?b=c HTTP/1.1\r\n")
    assert b"\r\nX-Forwarded-Host: meant.example:81\r\n" in request
    gateway.upstream.got.clear()
    await refused(gateway, get(b"http://user@meant.example/public/a"), b"400")
    await refused(gateway, get(b"ftp://meant.example/public/a"), b"400")
    await refused(gateway, get(b"http:///public/a"), b"400")


@pytest.mark.parametrize(
    "raw",
    [
        get(b"/public/a", b"A: b", b"\tc"),
        get(b"/public/a", b" A: b"),
        b"GET /public/a HTTP/1.1\r\n " + HOST + b"\r\n",
        get(b"/public/a", b"A: b\rc"),
        get(b"/public/a", b"A: b\nX: c"),
        get(b"/public/a", b"A\x00: b"),
        get(b"/public/a", b"A\t: b"),
        get(b"/public/a", b": b"),
        get(b"/public/a", b"A"),
        get(b"/public/a", b"Content_Length: 5"),
        get(b"/public/a\x0b"),
        get(b"/public/\xc3\xa9"),
        b"GET /public/a  HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET\t/public/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b" GET /public/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\nGET /public/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a ICE/1.0\r\n" + HOST + b"\r\n",
        b"GET /public/a HTTP/0.9\r\n" + HOST + b"\r\n",
        b"GET /public/a HTTP/1.2\r\n" + HOST + b"\r\n",
        b"GET /public/a http/1.1\r\n" + HOST + b"\r\n",
        b"GET /public/a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    ],
)
async def test_bytes_that_servers_read_differently_are_refused(gateway: GatewayUnderTest, raw: bytes) -> None:
    await refused(gateway, raw, b"400", b"501")


async def test_after_connection_close_there_is_one_answer_never_two(gateway: GatewayUnderTest) -> None:
    response = await gateway.send(get(b"/public/a", b"Connection: close") + get(b"/public/second"))
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"second" not in b"".join(gateway.upstream.got)
    response = await gateway.send(
        post(b"Connection: close", b"Content-Length: 2", body=b"ab" + get(b"/public/third"))
    )
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"third" not in b"".join(gateway.upstream.got)


async def test_path_and_query_cross_byte_for_byte(gateway: GatewayUnderTest) -> None:
    for target in (b"/public/a%20b%C3%A9?q=%2F..%2f;//&&=?x", b"/public/~a!$&'()*+,=:@b?", b"/public/%c3%A9"):
        request = await crossed(gateway, get(target, b"Connection: close"))
        assert request.startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "target",
    [
        b"/public/%2E%2E/private",
        b"/public/.%2e/private",
        b"/public/..;/private",
        b"/public/..%2fprivate",
        b"/public/..%5cprivate",
        b"/public/..\\private",
        b"/public\\private",
        b"//private",
        b"/./private",
        b"/public/./a",
        b"/public/..",
        b"/private%00",
        b"/private;a=b",
        b"/private%3Ba",
        b"/privat%65",
        b"/public/%",
        b"/public/%zz",
    ],
)
async def test_no_spelling_of_a_path_passes_a_route_it_does_not_name(
    gateway: GatewayUnderTest, target: bytes
) -> None:
    await refused(gateway, get(target), b"400")


async def test_another_case_or_a_slash_more_is_another_path(gateway: GatewayUnderTest) -> None:
    for target in (b"/PRIVATE", b"/private/", b"/Public/a"):
        response = await gateway.send(get(target, b"Connection: close"))
        assert response[9:12] in (b"401", b"404"), target
    assert gateway.upstream.got == []


async def test_a_body_is_asked_for_when_the_service_asks_for_it(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    response = await gateway.send(
        post(b"Expect: 100-continue", b"Content-Length: 2", b"Connection: close"), wait=2
    )
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"\r\nExpect: 100-continue\r\n" in b"".join(gateway.upstream.got)


async def test_early_hints_pass_but_not_to_a_client_of_http_1_0(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    response = await gateway.send(get(b"/public/a", b"Connection: close"))
    assert response.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")
    response = await gateway.send(b"GET /public/a HTTP/1.0\r\n" + HOST + b"\r\n")
    assert response.startswith(b"HTTP/1.1 200 ")


async def test_max_forwards_counts_down_and_via_says_whom_it_passed(gateway: GatewayUnderTest) -> None:
    request = await crossed(
        gateway, get(b"/public/a", b"Connection: close", b"Max-Forwards: 3", b"Via: 1.0 before")
    )
    assert b"\r\nMax-Forwards: 2\r\n" in request
    assert b"\r\nVia: 1.0 before, 1.1 gatehouse\r\n" in request


async def test_trace_and_connect_are_not_for_a_gateway(gateway: GatewayUnderTest) -> None:
    await refused(gateway, b"TRACE /public/a HTTP/1.1\r\n" + HOST + b"\r\n", b"405")
    await refused(gateway, b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", b"405", b"501")


@pytest.mark.parametrize("method", [b"TRACE", b"QUERY", b"PROPFIND", b"UNLOCK", b"DELETE"])
async def test_a_method_that_the_path_has_not_is_told_which_ones_it_has(
    gateway: GatewayUnderTest, method: bytes
) -> None:
    """The connection goes on: the request was read, with its body, and only its method has no place here."""
    request = method + b" /public/a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nbody"
    responses = await gateway.send(request + get(b"/public/a", b"Connection: close"))
    first, second = responses.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"405 ")
    allowed = re.search(rb"\r\nAllow: (.*)\r\n", first)
    assert allowed is not None
    assert allowed[1] == b"GET, HEAD, OPTIONS, POST"
    assert second.startswith(b"200 ")
    assert len(gateway.upstream.got) == 1


async def test_a_loop_is_detected_among_other_hops(gateway: GatewayUnderTest) -> None:
    raw = get(b"/public/a", b"Connection: close", b"Via: 1.0 x", b"Via: 1.1 y,1.1 GATEHOUSE")
    await refused(gateway, raw, b"508")


async def test_a_trailer_never_becomes_a_field(gateway: GatewayUnderTest) -> None:
    body = b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\nX-Sum: 1\r\n\r\n"
    request = await crossed(gateway, post(b"Connection: close", b"Transfer-Encoding: chunked", body=body))
    assert b"Bearer" not in request
    assert b"X-Sum" not in request
    gateway.upstream.response = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"
    )
    response = await gateway.send(get(b"/public/a", b"Connection: close"))
    assert b"Set-Cookie" not in response
    assert response.endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")


async def test_conditional_and_range_fields_pass(gateway: GatewayUnderTest) -> None:
    lines = (b'If-None-Match: W/"a"', b"Range: bytes=0-1", b'If-Range: "b"', b'If-Match: "c"')
    request = await crossed(gateway, get(b"/public/a", b"Connection: close", *lines))
    for line in lines:
        assert b"\r\n" + line + b"\r\n" in request


async def test_an_answer_that_has_no_body_gets_none(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 9\r\n\r\n'
    one = await gateway.send(get(b"/public/a") + get(b"/public/a", b"Connection: close"))
    assert one.count(b"HTTP/1.1 304 ") == 2
    gateway.upstream.response = b"HTTP/1.1 204 No Content\r\n\r\n"
    two = await gateway.send(get(b"/public/a") + get(b"/public/a", b"Connection: close"))
    assert two.count(b"HTTP/1.1 204 ") == 2
    assert b"Content-Length" not in two
    assert b"Transfer-Encoding" not in two


async def test_an_early_answer_reaches_a_client_that_is_still_sending(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno"
    response = await gateway.send(post(b"Content-Length: 100000", body=b"a" * 1000))
    assert response.startswith(b"HTTP/1.1 409 Conflict\r\n")
    assert b"\r\nConnection: close\r\n" in response
    assert response.endswith(b"no")


async def test_only_websocket_is_ever_upgraded_to(gateway: GatewayUnderTest) -> None:
    request = await crossed(
        gateway, get(b"/public/a", b"Connection: close, Upgrade, HTTP2-Settings", b"Upgrade: h2c")
    )
    assert b"upgrade" not in request.lower()
    request = await crossed(gateway, get(b"/public/a", b"Connection: close, Upgrade", b"Upgrade: websocket"))
    assert b"upgrade" not in request.lower(), "the route does not say websocket"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nSet-Cookie: c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\nX\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x0bOK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 \x7f\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_an_answer_that_cannot_be_trusted_is_a_502_and_its_connection_ends(
    gateway: GatewayUnderTest, response: bytes
) -> None:
    gateway.upstream.response = response
    got = await gateway.send(get(b"/public/a", b"Connection: close"))
    assert got.startswith(b"HTTP/1.1 502 "), got
    assert b"Set-Cookie" not in got


@pytest.mark.parametrize(
    ("pieces", "clean_end"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc"], b"abcdefghi"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\nde"], b"0\r\n\r\n"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n"], b"0\r\n\r\n"),
    ],
)
async def test_an_answer_that_breaks_off_never_ends_cleanly(
    gateway: GatewayUnderTest, pieces: list[bytes], clean_end: bytes
) -> None:
    gateway.upstream.response = BreaksOff(pieces)
    got = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(get(b"/public/a"))
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(2):
            while data := await reader.read(65536):
                got += data
    writer.close()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert not got.endswith(clean_end)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n"],
    ],
)
async def test_an_answer_that_breaks_off_is_reset_where_the_connections_end_is_its_end(
    gateway: GatewayUnderTest, pieces: list[bytes]
) -> None:
    gateway.upstream.response = BreaksOff(pieces)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /public/a HTTP/1.0\r\n" + HOST + b"\r\n")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_a_connection_with_surplus_bytes_is_not_used_again(gateway: GatewayUnderTest) -> None:
    gateway.upstream.response = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: poison\r\n\r\n",
    ]
    first = await gateway.send(get(b"/public/a"))
    second = await gateway.send(get(b"/public/b", b"Connection: close"))
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert b"poison" not in first + second
