"""What crosses to the services, and what is stripped or added on the way."""

import os
from collections.abc import Iterator
from typing import Final

from gateway.http1.head import Head, LoopDetected, request_id_of, trace_of
from gateway.http1.headers import members
from gateway.policy.proxy_request import ProxyRequest
from service_kit.addresses import ClientAddress

VIA: Final = b"1.1 gatehouse"


def _ids() -> Iterator[bytes]:
    """Request ids: 128 random bits in hexadecimal, cut from a block, as asking for each would cost ten times that."""
    while True:
        block = os.urandom(4096).hex().encode()
        for at in range(0, len(block), 32):
            yield block[at : at + 32]


new_request_id: Final = _ids().__next__


def name(request: ProxyRequest) -> None:
    """Gives the request its id and trace: the caller's where well-formed, else new ones."""
    head = request.head
    bits = new_request_id()
    request.request_id = (request_id_of(head) if b"x-request-id" in head.others else None) or bits
    trace = trace_of(head) if b"traceparent" in head.others else None
    request.trace = trace or b"-".join((b"00", bits, bits[16:], b"00"))


def prepare(request: ProxyRequest, authority: bytes) -> bytes:
    """The request head as it goes to the upstream."""
    head = request.head
    target = head.target if request.route.rewrite is None else request.route.rewritten(head.target)
    if not head.crossing:
        head.crossing = _crossing(head)
    parts = (
        head.method,
        b" ",
        target,
        b" HTTP/1.1\r\nHost: ",
        authority,
        head.crossing,
        _passed(request) if request.route.pass_headers else b"",
        _switching(request) if request.upgrading else b"",
        b"\r\nX-Forwarded-For: ",
        request.client,
        b"\r\nX-Forwarded-Proto: ",
        request.scheme,
        b"\r\nX-Forwarded-Host: ",
        head.host,
        b"\r\nX-Request-Id: ",
        request.request_id,
        b"\r\ntraceparent: ",
        request.trace,
        b"\r\n\r\n",
    )
    return b"".join(parts)


def _crossing(head: Head) -> bytes:
    """The fields that follow from the client's alone, each with a line end before it."""
    others = head.others
    lines = [b"", *head.headers]
    if head.authorization:
        lines.append(b"Authorization: " + head.authorization[0])
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length is not None:
        lines.append(b"Content-Length: %d" % head.length)
    lines.extend(b"Origin: " + value for value in others.get(b"origin", ()))
    if b"tracestate" in others and trace_of(head) is not None:
        # It belongs to the traceparent that the client sent: beside one of ours it would tell of another trace.
        lines.append(b"tracestate: " + b",".join(filter(None, others[b"tracestate"])))
    requested_method = others.get(b"access-control-request-method", ())
    lines.extend(b"Access-Control-Request-Method: " + value for value in requested_method)
    if head.expects_continue:
        lines.append(b"Expect: 100-continue")
    if b"max-forwards" in others and (hops := head.value(b"max-forwards")) and hops.isdigit():
        lines.append(b"Max-Forwards: %d" % max(0, int(hops[:9]) - 1))
    via = VIA if b"via" not in others or b"via" in head.named else b", ".join((*others[b"via"], VIA))
    lines.append(b"Via: " + via)
    return b"\r\n".join(lines)


def _passed(request: ProxyRequest) -> bytes:
    """What the route lets through of the names that are otherwise removed."""
    others = request.head.others
    return b"".join(
        b"\r\n%b: %b" % (name, value) for name in request.route.pass_headers for value in others.get(name, ())
    )


def _switching(request: ProxyRequest) -> bytes:
    """What asks the upstream to switch to WebSocket."""
    others = request.head.others
    key = others[b"sec-websocket-key"][0]
    lines = (
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + key
    )
    if request.subprotocols:
        lines += b"\r\nSec-WebSocket-Protocol: " + request.subprotocols
    if extensions := b", ".join(others.get(b"sec-websocket-extensions", ())):
        lines += b"\r\nSec-WebSocket-Extensions: " + extensions
    return lines


def locate(request: ProxyRequest, proxies: ClientAddress) -> None:
    """Where the request comes from: the connection's peer, or what a trusted proxy says."""
    head = request.head
    peer = head.peer.decode()
    request.client = proxies.of(peer, head.others.get(b"x-forwarded-for", ())).encode()
    request.scheme = proxies.scheme(peer, head.others.get(b"x-forwarded-proto", ()), "http").encode()


def refuse_loops(head: Head) -> None:
    """A request that already names us in Via came from ourselves."""
    if VIA in members(head.others[b"via"]):
        raise LoopDetected
