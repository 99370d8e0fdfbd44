"""Fields that are lists mean the same in one line and in several (RFC 9110, 5.3), and what belongs together crosses
together."""

import pytest

from tests.conftest import GatewayUnderTest
from tests.wire import get, post

PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def _crossed(gateway: GatewayUnderTest, raw: bytes) -> bytes:
    gateway.upstream.got.clear()
    response = await gateway.send(raw)
    assert response.startswith(b"HTTP/1.1 200 "), response
    return b"".join(gateway.upstream.got)


async def test_connection_is_read_over_all_its_lines(gateway: GatewayUnderTest) -> None:
    crossed = await _crossed(
        gateway,
        get(b"/public/a", b"Connection: x-one", b"X-One: 1", b"X-Two: 2", b"Connection: ,x-two, close"),
    )
    assert b"X-One" not in crossed
    assert b"X-Two" not in crossed


@pytest.mark.parametrize(
    "lines",
    [
        (b"Expect: 100-continue", b"Expect: 100-Continue"),
        (b"Expect: 100-continue, 100-continue",),
        (b"Expect: ,100-continue,",),
        (b"Expect: ", b"Expect: 100-continue"),
    ],
)
async def test_an_expectation_said_twice_is_the_same_expectation(
    gateway: GatewayUnderTest, lines: tuple[bytes, ...]
) -> None:
    crossed = await _crossed(gateway, post(*lines, b"Content-Length: 2", body=b"ok"))
    assert crossed.count(b"\r\nExpect: 100-continue\r\n") == 1


async def test_one_expectation_among_others_that_is_not_known_is_417(gateway: GatewayUnderTest) -> None:
    for lines in ((b"Expect: 100-continue, tea",), (b"Expect: 100-continue", b"Expect: tea")):
        response = await gateway.send(post(*lines, b"Content-Length: 2", body=b"ok"))
        assert response.startswith(b"HTTP/1.1 417 "), response


@pytest.mark.parametrize("separate", [False, True])
async def test_accept_is_read_over_all_its_lines(gateway: GatewayUnderTest, separate: bool) -> None:
    accept = [b"Accept: text/html", b"Accept: text/plain"] if separate else [b"Accept: text/html, text/plain"]
    response = await gateway.send(get(b"/openapi.json", *accept))
    assert response.startswith(b"HTTP/1.1 406 ")
    response = await gateway.send(get(b"/openapi.json", *accept, b"Accept: application/json"))
    assert response.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "lines",
    [
        (b"Upgrade: h2c, WebSocket", b"Connection: Upgrade"),
        (b"Upgrade: h2c", b"Upgrade: websocket", b"Connection: keep-alive", b"Connection: Upgrade"),
    ],
)
async def test_a_websocket_among_other_protocols_is_switched_to(
    gateway: GatewayUnderTest, lines: tuple[bytes, ...]
) -> None:
    gateway.upstream.response = SWITCH
    response = await gateway.send(
        get(
            b"/socket",
            *lines,
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Protocol: chat, bearer." + gateway.issuer.token().encode(),
            b"Sec-WebSocket-Protocol: news",
            b"Sec-WebSocket-Extensions: permessage-deflate",
            b"Sec-WebSocket-Extensions: x-other",
        )
    )
    assert response.startswith(b"HTTP/1.1 101 ")
    crossed = b"".join(gateway.upstream.got)
    assert b"\r\nUpgrade: websocket\r\n" in crossed
    assert b"h2c" not in crossed
    assert b"\r\nSec-WebSocket-Protocol: chat, news\r\n" in crossed
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate, x-other\r\n" in crossed


async def test_what_belongs_to_a_websocket_stays_here_without_one(gateway: GatewayUnderTest) -> None:
    crossed = await _crossed(
        gateway,
        get(
            b"/public/a",
            b"Connection: Upgrade",
            b"Upgrade: h2c",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Protocol: chat",
            b"Sec-WebSocket-Extensions: permessage-deflate",
        ),
    )
    assert b"sec-websocket" not in crossed.lower()


async def test_our_name_in_any_line_of_via_is_a_loop(gateway: GatewayUnderTest) -> None:
    for lines in ((b"Via: 1.0 a, 1.1 Gatehouse",), (b"Via: 1.0 a", b"Via: 1.1 b,1.1 gatehouse ,1.1 c")):
        response = await gateway.send(get(b"/public/a", *lines))
        assert response.startswith(b"HTTP/1.1 508 ")


async def test_tracestate_crosses_whole_with_the_traceparent_it_belongs_to(gateway: GatewayUnderTest) -> None:
    crossed = await _crossed(
        gateway, get(b"/public/a", b"tracestate: a=1", PARENT, b"TraceState: b=2,c=3", b"tracestate: ")
    )
    assert b"\r\ntracestate: a=1,b=2,c=3\r\n" in crossed
    assert b"\r\n" + PARENT + b"\r\n" in crossed


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"traceparent: nonsense",),
        (b"traceparent: 00-" + b"0" * 32 + b"-b7ad6b7169203331-01",),
        (PARENT, PARENT),
        (PARENT, b"Connection: traceparent"),
        (PARENT, b"Connection: tracestate"),
    ],
)
async def test_tracestate_of_another_trace_than_ours_is_dropped(
    gateway: GatewayUnderTest, lines: tuple[bytes, ...]
) -> None:
    crossed = await _crossed(gateway, get(b"/public/a", b"tracestate: a=1", *lines))
    assert b"tracestate" not in crossed.lower()
    assert crossed.count(b"\r\ntraceparent: ") == 1
