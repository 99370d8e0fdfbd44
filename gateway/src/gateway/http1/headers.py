"""Reads a request's header fields one way, or refuses them: what crosses as it came, what is dropped, what is meant."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.http1.asserted_headers import is_asserted
from gateway.http1.head import (
    BadRequest,
    CodingUnknown,
    ExpectationUnknown,
    Head,
    HeadTooLarge,
    LengthUnclear,
)
from service_kit.response_revocations import HEADER

MAX_HEADERS: Final = 100
MAX_ELEMENTS: Final = 100  # of each list that is read

# What becomes of a field: PASS crosses as it came, ONCE too but must not stand twice, DROP does not cross, any other
# value is the lower-case name under which its values are collected, to be interpreted below.
PASS: Final = b""
ONCE: Final = b"1"
DROP: Final = b"-"

# What a service's response says has ended: between it and the gateway alone, in neither direction with anybody else.
REVOKED: Final = HEADER.lower().encode()
_COLLECTED: Final = frozenset(
    b"host authorization content-length transfer-encoding connection expect upgrade via max-forwards origin "
    b"x-forwarded-for x-forwarded-proto x-request-id traceparent tracestate access-control-request-method "
    b"sec-websocket-key sec-websocket-version sec-websocket-protocol sec-websocket-extensions".split()
)
_HOP_BY_HOP: Final = frozenset(
    b"keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer http2-settings".split()
)
# Fields that have one value (RFC 9110, 5.3): of two, some servers would read the first and some the last.
_SINGLE: Final = frozenset(
    b"content-type content-location content-range etag range if-range idempotency-key user-agent server".split()
)
HEADER_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^`|~-]+")
HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
# A request that names one of these as hop-by-hop asks for it to be removed before the upstream decides by it.
_NEVER_HOP_BY_HOP: Final = frozenset(
    (b"host", b"authorization", b"content-length", b"cookie", b"if-match", b"idempotency-key")
)

# What the gateway decides by before it drops it: nobody may have it forgotten by calling it hop-by-hop.
_READ_FIRST: Final = frozenset((b"via", b"x-forwarded-for", b"x-forwarded-proto"))

_MEMO_LIMIT: Final = 4096
_treatments: dict[bytes, bytes] = {}
_hosts: set[bytes] = set()


def read_headers(head: Head, lines: list[bytes]) -> None:
    """Reads the lines behind the first, which is the request line, into the head."""
    if len(lines) > MAX_HEADERS + 1:
        raise HeadTooLarge(f"The request has more than {MAX_HEADERS} headers.")
    headers, others = head.headers, head.others
    single: list[bytes] = []
    for index in range(1, len(lines)):
        line = lines[index]
        name, colon, value = line.partition(b":")
        treatment = _treatments.get(name)
        if treatment is None:
            treatment = _classify(name)
        if not colon:
            raise BadRequest("A header line has no colon.")
        if treatment is PASS:
            headers.append(line)
        elif treatment is ONCE:
            headers.append(line)
            single.append(name)
        elif treatment is not DROP:
            value = value.strip(b" \t")
            if treatment in others:
                others[treatment].append(value)
            else:
                others[treatment] = [value]
    if len(single) > 1 and len({name.lower() for name in single}) < len(single):
        raise BadRequest("A header that has one value is sent twice.")
    _interpret(head)


def _classify(name: bytes) -> bytes:
    if not HEADER_NAME.fullmatch(name):
        # An underscore is a token character, but servers that fold it to a dash would read another field than we did.
        raise BadRequest("A header name is empty, or holds an underscore or another forbidden character.")
    lower = name.lower()
    if lower in _COLLECTED or is_asserted(lower):
        treatment = lower  # what others could believe is kept aside: it crosses where the route says so
    elif lower in _HOP_BY_HOP or lower == REVOKED:
        treatment = DROP
    elif lower in _SINGLE:
        treatment = ONCE
    else:
        treatment = PASS
    if len(name) <= 64:
        if len(_treatments) >= _MEMO_LIMIT:
            _treatments.clear()  # whoever filled it shall not keep it from everybody
        _treatments[name] = treatment
    return treatment


def _interpret(head: Head) -> None:
    others = head.others
    _read_host(head, others.pop(b"host", None))
    head.authorization = others.pop(b"authorization", [])
    if len(head.authorization) > 1:
        raise BadRequest("Authorization is sent more than once.")
    if not others:
        return
    if b"content-length" in others or b"transfer-encoding" in others:
        _read_framing(head)
    if b"connection" in others:
        _read_connection(head)
    if b"expect" in others and head.http11 and (expected := set(members(others[b"expect"]))):
        if expected != {b"100-continue"}:
            raise ExpectationUnknown
        head.expects_continue = head.has_body


def members(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a list in lower case."""
    return [element.lower() for element in elements(values)]


def elements(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a list (RFC 9110, 5.6.1), in however many lines it came; empty ones say nothing, but thousands of
    them would hold up everybody else."""
    parts = b",".join(values).split(b",", MAX_ELEMENTS)
    if len(parts) > MAX_ELEMENTS:
        raise HeadTooLarge(f"A list has more than {MAX_ELEMENTS} elements.")
    return [element for part in parts if (element := part.strip(b" \t"))]


def _read_host(head: Head, values: list[bytes] | None) -> None:
    if values is None or len(values) != 1:
        raise BadRequest("The request must have exactly one Host.")
    host = values[0]
    if host not in _hosts:
        match = HOST.fullmatch(host)
        if match is None:
            raise BadRequest("Host is not a host name or address with an optional port.")
        if len(host) <= 255:
            if len(_hosts) >= _MEMO_LIMIT:
                _hosts.clear()
            _hosts.add(host)
    if not head.host:
        head.host = host


def _read_framing(head: Head) -> None:
    lengths = head.others.pop(b"content-length", None)
    codings = head.others.pop(b"transfer-encoding", None)
    if codings is not None:
        if lengths is not None:
            raise LengthUnclear("Content-Length and Transfer-Encoding are both sent.")
        if not head.http11:
            raise LengthUnclear("HTTP/1.0 has no Transfer-Encoding.")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise CodingUnknown
        head.chunked = head.has_body = True
    elif lengths is not None:
        if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 15:
            raise LengthUnclear("Content-Length is not one decimal number.")
        head.length = int(lengths[0])
        head.has_body = head.length > 0


def _read_connection(head: Head) -> None:
    named = set(members(head.others.pop(b"connection")))
    if not named.isdisjoint(_NEVER_HOP_BY_HOP):
        raise BadRequest("Connection names a header that is not hop-by-hop.")
    if b"close" in named:
        head.keep_alive = False
    elif b"keep-alive" in named:
        head.keep_alive = True
    if b"upgrade" in named:
        head.upgrade = tuple(members(head.others.get(b"upgrade", ())))
    named -= {b"close", b"keep-alive", b"upgrade"}
    if named:
        head.named = named
        head.headers = [line for line in head.headers if line.partition(b":")[0].lower() not in named]
        for name in (named & head.others.keys()) - _READ_FIRST:
            del head.others[name]
