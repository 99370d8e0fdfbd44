"""Reads a request head one way, or refuses it.

The head arrives as raw bytes, and llhttp has to accept the same bytes (see reading.py): what is decided on here is,
byte for byte, what is forwarded.
"""

import re
from typing import Final

from gateway.http1.head import AmbiguousPath, BadRequest, Head, MethodUnknown, TargetTooLong
from gateway.http1.headers import HOST, read_headers
from service_kit.problems import Problem

MAX_HEAD: Final = 16 * 1024
MAX_TARGET: Final = 8 * 1024

# What a route can have, then what HTTP knows besides: there the path decides between 404 and 405 (RFC 9110, 9.1).
_METHODS: Final = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS "
    b"TRACE QUERY PURGE COPY LINK LOCK MKCOL MOVE PROPFIND PROPPATCH REPORT SEARCH UNLINK UNLOCK".split()
)

_OF_A_REFUSAL: Final = frozenset(
    b"origin access-control-request-method x-forwarded-for x-forwarded-proto".split()
)
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)", re.DOTALL)
_PATH_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/"
_TARGET_BYTES: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
# An escape that a decoder turns into a separator, a control or a letter that could have been written plainly: the
# upstream would then see another path than the one the route was matched on.
_HIDING_ESCAPE: Final = re.compile(
    rb"%(?:[01][0-9A-Fa-f]|2[DdEeFf]|3[0-9Bb]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEeFf])"
)
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")


def read(block: bytes) -> Head:
    """Reads a head, without its closing empty line; raises a Problem when its first line has more than one reading, or
    none. Of fields that have not exactly one it says so itself."""
    lines = block.split(b"\r\n")
    head = Head(*_read_request_line(lines[0]))
    named_by_target = bool(head.host)
    try:
        read_headers(head, lines)
    except Problem as refusal:
        _refuse(head, lines, refusal)
        return head
    head.repeatable = head.http11 and not (named_by_target or head.has_body or head.upgrade)
    return head


def _refuse(head: Head, lines: list[bytes], refusal: Problem) -> None:
    """Nothing that such a request says of itself is relied on. What stays is what its refusal needs: whose allowance it
    is charged to, and which script may read it."""
    head.refusal = refusal
    head.keep_alive = head.chunked = head.has_body = head.expects_continue = False
    head.length, head.upgrade, head.headers, head.others = None, (), [], {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if (lower := name.lower()) in _OF_A_REFUSAL:
            head.others.setdefault(lower, []).append(value.strip(b" \t"))


def read_again(line: bytes, known: Head) -> Head | None:
    """Reads a request line whose fields are those of a repeatable head; None if they could mean another thing here."""
    method, target, http11, host = _read_request_line(line)
    return known.again(target) if http11 and not host and method == known.method else None


def _read_request_line(line: bytes) -> tuple[bytes, bytes, bool, bytes]:
    """Method, target in origin-form, whether it is HTTP/1.1, and the host if the target names one."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadRequest("The request line is not method, target and version with single spaces.")
    method, target, version = parts
    if len(target) > MAX_TARGET:
        raise TargetTooLong(f"The target is longer than {MAX_TARGET} bytes.")
    http11 = version == b"HTTP/1.1"
    if not http11 and version != b"HTTP/1.0":
        raise BadRequest("Only HTTP/1.1 and HTTP/1.0 are supported.")
    if method not in _METHODS:
        raise MethodUnknown
    if target.translate(None, _TARGET_BYTES):
        raise BadRequest("The target holds a character that must be escaped.")
    if target.startswith(b"/"):
        host = b""
    else:
        target, host = _read_absolute_form(target)
    _check_path(target.partition(b"?")[0])
    return method, target, http11, host


def _read_absolute_form(target: bytes) -> tuple[bytes, bytes]:
    """Target and host."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("The target is neither a path nor an absolute http URI.")
    authority, rest = match.groups()
    if not HOST.fullmatch(authority):
        raise BadRequest("The target's authority is not a host.")
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


def _check_path(path: bytes) -> None:
    # Refuse rather than clean: what we match is byte for byte what we forward.
    if path.translate(None, _PATH_BYTES):
        without_escapes = _ESCAPE.sub(b"", path)
        if without_escapes.translate(None, _PATH_BYTES):
            raise AmbiguousPath("The path holds a character that must be escaped, or a broken escape.")
        if _HIDING_ESCAPE.search(path):
            raise AmbiguousPath("The path escapes a separator, or a character that needs no escape.")
    # Not `in`, which of bytes first makes an error and forgets it.
    if path.find(b"//") >= 0:
        raise AmbiguousPath("The path holds an empty segment.")
    if path.find(b"/.") >= 0 and any(segment in (b".", b"..") for segment in path.split(b"/")):
        raise AmbiguousPath("The path holds a dot segment.")
