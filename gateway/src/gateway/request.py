"""Reads a request head one way, or refuses it.

The head arrives as raw bytes, and llhttp has to accept the same bytes (see edge.py): what is decided on here is, byte
for byte, what is forwarded.
"""

import re
from http import HTTPStatus
from typing import Final

from service_kit.problems import Problem

MAX_HEAD: Final = 16 * 1024
MAX_FIELDS: Final = 100
MAX_TARGET: Final = 8 * 1024


class BadRequest(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "bad_request", "The request is not well-formed"


class AmbiguousPath(Problem):
    status, code, title = (
        HTTPStatus.BAD_REQUEST,
        "ambiguous_path",
        "The path can be read in more than one way",
    )


class LengthUnclear(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "bad_framing", "The length of the body is not clear"


class CodingUnknown(Problem):
    status, code, title = (
        HTTPStatus.NOT_IMPLEMENTED,
        "transfer_coding",
        "Only the chunked transfer coding is understood",
    )


class MethodUnknown(Problem):
    status, code, title = (
        HTTPStatus.NOT_IMPLEMENTED,
        "method_not_implemented",
        "The method is not implemented",
    )


class TargetTooLong(Problem):
    status, code, title = HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", "The request target is too long"


class HeadTooLarge(Problem):
    status, code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"
    title = "The header fields are too large or too many"


class BodyTooLarge(Problem):
    status, code, title = (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        "The body is larger than this route takes",
    )


class ExpectationUnknown(Problem):
    status, code, title = (
        HTTPStatus.EXPECTATION_FAILED,
        "expectation_failed",
        "Only 100-continue can be expected",
    )


class LoopDetected(Problem):
    status, code, title = HTTPStatus.LOOP_DETECTED, "loop_detected", "The request has been here before"


# What a route can have, then what HTTP knows besides: there the path decides between 404 and 405 (RFC 9110, 9.1).
_METHODS: Final = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS "
    b"TRACE QUERY PURGE COPY LINK LOCK MKCOL MOVE PROPFIND PROPPATCH REPORT SEARCH UNLINK UNLOCK".split()
)

# What becomes of a field: PASS crosses as it came, ONCE too but must not stand twice, DROP does not cross, any other
# value is the lower-case name under which its values are collected, to be interpreted below.
PASS: Final = b""
ONCE: Final = b"1"
DROP: Final = b"-"

_COLLECTED: Final = frozenset(
    b"host authorization content-length transfer-encoding connection expect upgrade via max-forwards origin "
    b"x-forwarded-for x-forwarded-proto x-request-id traceparent access-control-request-method "
    b"sec-websocket-key sec-websocket-version sec-websocket-protocol".split()
)
_HOP_BY_HOP: Final = frozenset(
    b"keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer http2-settings".split()
)
# Fields that have one value (RFC 9110, 5.3): of two, some servers would read the first and some the last.
_SINGLE: Final = frozenset(
    b"content-type content-location content-range etag range if-range idempotency-key user-agent server".split()
)
# Fields by which some servers let a caller say who it is, where it comes from, or which path and method it really meant.
_CLAIMS: Final = frozenset(
    b"forwarded x-real-ip client-ip x-client-ip true-client-ip cf-connecting-ip x-cluster-client-ip remote-user "
    b"x-remote-user x-original-url x-rewrite-url x-original-uri x-http-method x-http-method-override "
    b"x-method-override x-user x-client-cert x-client-id x-subject x-scope x-scopes x-role x-roles x-session-id".split()
)
_CLAIM_PREFIXES: Final = (
    b"x-forwarded-",
    b"x-user-",
    b"x-auth-",
    b"x-authenticated-",
    b"x-internal-",
    b"x-caller-",
    b"x-ssl-",
)

_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^`|~-]+")
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
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
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# A request that names one of these as hop-by-hop asks for it to be removed before the upstream decides by it.
_NEVER_HOP_BY_HOP: Final = frozenset(
    (b"host", b"authorization", b"content-length", b"cookie", b"if-match", b"idempotency-key")
)

# What the gateway decides by before it drops it: nobody may have it forgotten by calling it hop-by-hop.
_READ_FIRST: Final = frozenset((b"via", b"x-forwarded-for", b"x-forwarded-proto"))
_NOTHING: Final = frozenset[bytes]()

_MEMO_LIMIT: Final = 4096
_treatments: dict[bytes, bytes] = {}
_hosts: set[bytes] = set()


class Head:
    """What a request said before its body."""

    __slots__ = (
        "authorization",
        "bearer",
        "chunked",
        "crossing",
        "digest",
        "expects_continue",
        "fields",
        "host",
        "http11",
        "keep_alive",
        "length",
        "method",
        "named",
        "others",
        "path",
        "peer",
        "repeatable",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, http11: bool, host: bytes = b"") -> None:
        self.method = method
        self.target = target  # origin-form, as it will be forwarded
        self.path = target.partition(b"?")[0] if b"?" in target else target
        self.peer = b""
        self.http11 = http11
        self.host = host  # the target's own, else the field's
        self.fields: list[bytes] = []  # the lines that cross as they came
        self.others: dict[bytes, list[bytes]] = {}
        self.named: frozenset[bytes] | set[bytes] = _NOTHING  # by Connection, in lower case
        self.authorization: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = http11
        self.expects_continue = False
        self.upgrade = b""
        self.repeatable = False  # whether the fields mean the same behind another request line
        # What later steps make of the fields, kept for the next head that repeats them.
        self.bearer = b""
        self.digest = b""
        self.crossing = b""

    def again(self, target: bytes) -> "Head":
        """Another request with the very same method and fields: what was made of them is shared, never changed."""
        head = Head.__new__(Head)
        head.method = self.method
        head.target = target
        head.path = target.partition(b"?")[0] if b"?" in target else target
        head.peer = self.peer
        head.http11 = True
        head.host = self.host
        head.fields = self.fields
        head.others = self.others
        head.named = self.named
        head.authorization = self.authorization
        head.length = self.length
        head.chunked = False
        head.keep_alive = self.keep_alive
        head.expects_continue = False
        head.upgrade = b""
        head.repeatable = True
        head.bearer = self.bearer
        head.digest = self.digest
        head.crossing = self.crossing
        return head

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)

    def value(self, name: bytes) -> bytes | None:
        """The one value of a collected field; None when absent or given more than once."""
        values = self.others.get(name)
        return values[0] if values is not None and len(values) == 1 else None


def read(block: bytes) -> Head:
    """Reads a head, without its closing empty line; raises a Problem when it has more than one reading, or none."""
    lines = block.split(b"\r\n")
    if len(lines) > MAX_FIELDS + 1:
        raise HeadTooLarge(f"more than {MAX_FIELDS} header fields")
    head = Head(*_read_request_line(lines[0]))
    fields, others = head.fields, head.others
    single: list[bytes] = []
    for index in range(1, len(lines)):
        line = lines[index]
        name, colon, value = line.partition(b":")
        treatment = _treatments.get(name)
        if treatment is None:
            treatment = _classify(name)
        if not colon:
            raise BadRequest("a header line has no colon")
        if treatment is PASS:
            fields.append(line)
        elif treatment is ONCE:
            fields.append(line)
            single.append(name)
        elif treatment is not DROP:
            value = value.strip(b" \t")
            if treatment in others:
                others[treatment].append(value)
            else:
                others[treatment] = [value]
    if len(single) > 1 and len({name.lower() for name in single}) < len(single):
        raise BadRequest("a field that has one value is given twice")
    named_by_target = bool(head.host)
    _interpret(head)
    head.repeatable = head.http11 and not (named_by_target or head.has_body or head.upgrade)
    return head


def read_again(line: bytes, known: Head) -> Head | None:
    """Reads a request line whose fields are those of a repeatable head; None if they could mean another thing here."""
    method, target, http11, host = _read_request_line(line)
    return known.again(target) if http11 and not host and method == known.method else None


def _read_request_line(line: bytes) -> tuple[bytes, bytes, bool, bytes]:
    """Method, target in origin-form, whether it is HTTP/1.1, and the host if the target names one."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadRequest("the request line is not method, target and version with single spaces")
    method, target, version = parts
    if len(target) > MAX_TARGET:
        raise TargetTooLong(f"the target is longer than {MAX_TARGET} bytes")
    http11 = version == b"HTTP/1.1"
    if not http11 and version != b"HTTP/1.0":
        raise BadRequest("only HTTP/1.1 and HTTP/1.0 are understood")
    if method not in _METHODS:
        raise MethodUnknown
    if target.translate(None, _TARGET_BYTES):
        raise BadRequest("the target holds a character that must be escaped")
    if target.startswith(b"/"):
        host = b""
    else:
        target, host = _read_absolute_form(target)
    _check_path(target.partition(b"?")[0] if b"?" in target else target)
    return method, target, http11, host


def _read_absolute_form(target: bytes) -> tuple[bytes, bytes]:
    """Target and host."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("the target is neither a path nor an absolute http URI")
    authority, rest = match.groups()
    if not _HOST.fullmatch(authority):
        raise BadRequest("the target's authority is not a host")
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


def _check_path(path: bytes) -> None:
    # Refuse rather than clean: what we match is byte for byte what we forward.
    if path.translate(None, _PATH_BYTES):
        without_escapes = _ESCAPE.sub(b"", path)
        if without_escapes.translate(None, _PATH_BYTES):
            raise AmbiguousPath("the path holds a character that must be escaped, or a broken escape")
        if _HIDING_ESCAPE.search(path):
            raise AmbiguousPath(
                "the path escapes a character that must be written plainly, or that separates"
            )
    if b"//" in path:
        raise AmbiguousPath("the path holds an empty segment")
    if b"/." in path and any(segment in (b".", b"..") for segment in path.split(b"/")):
        raise AmbiguousPath("the path holds a dot segment")


def _classify(name: bytes) -> bytes:
    if not _FIELD_NAME.fullmatch(name):
        # An underscore is a token character, but servers that fold it to a dash would read another field than we did.
        raise BadRequest("a header name is empty, or holds a character that has no place there")
    lower = name.lower()
    if lower in _COLLECTED:
        treatment = lower
    elif lower in _HOP_BY_HOP or lower in _CLAIMS or lower.startswith(_CLAIM_PREFIXES):
        treatment = DROP
    elif lower in _SINGLE:
        treatment = ONCE
    else:
        treatment = PASS
    if len(_treatments) < _MEMO_LIMIT and len(name) <= 64:
        _treatments[name] = treatment
    return treatment


def _interpret(head: Head) -> None:
    others = head.others
    _read_host(head, others.pop(b"host", None))
    head.authorization = others.pop(b"authorization", [])
    if len(head.authorization) > 1:
        raise BadRequest("more than one Authorization")
    if not others:
        return
    if b"content-length" in others or b"transfer-encoding" in others:
        _read_framing(head)
    if b"connection" in others:
        _read_connection(head)
    if b"expect" in others and head.http11:
        if [value.lower() for value in others[b"expect"]] != [b"100-continue"]:
            raise ExpectationUnknown
        head.expects_continue = head.has_body


def _read_host(head: Head, values: list[bytes] | None) -> None:
    if values is None or len(values) != 1:
        raise BadRequest("there must be exactly one Host")
    host = values[0]
    if host not in _hosts:
        match = _HOST.fullmatch(host)
        if match is None:
            raise BadRequest("Host is not a host name or address with an optional port")
        if len(_hosts) < _MEMO_LIMIT and len(host) <= 255:
            _hosts.add(host)
    if not head.host:
        head.host = host


def _read_framing(head: Head) -> None:
    lengths = head.others.pop(b"content-length", None)
    codings = head.others.pop(b"transfer-encoding", None)
    if codings is not None:
        if lengths is not None:
            raise LengthUnclear("both Content-Length and Transfer-Encoding")
        if not head.http11:
            raise LengthUnclear("Transfer-Encoding in HTTP/1.0")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise CodingUnknown
        head.chunked = True
    elif lengths is not None:
        if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 15:
            raise LengthUnclear("Content-Length is not one decimal number")
        head.length = int(lengths[0])


def _read_connection(head: Head) -> None:
    named = {
        token.strip(b" \t").lower() for value in head.others.pop(b"connection") for token in value.split(b",")
    }
    named.discard(b"")
    if not named.isdisjoint(_NEVER_HOP_BY_HOP):
        raise BadRequest("Connection names a field that is not hop-by-hop")
    if b"close" in named:
        head.keep_alive = False
    elif b"keep-alive" in named:
        head.keep_alive = True
    if b"upgrade" in named:
        head.upgrade = b",".join(head.others.get(b"upgrade", ()))
    named -= {b"close", b"keep-alive", b"upgrade"}
    if named:
        head.named = named
        head.fields = [line for line in head.fields if line.partition(b":")[0].lower() not in named]
        for name in (named & head.others.keys()) - _READ_FIRST:
            del head.others[name]


def check_length(head: Head, most: int) -> None:
    """Refuses an announced body that is too large; one without a length is counted as it comes."""
    if head.length is not None and head.length > most:
        raise BodyTooLarge(f"more than {most} bytes")


def request_id_of(head: Head) -> bytes | None:
    """The caller's X-Request-Id, when it is one that can be logged and passed on."""
    value = head.value(b"x-request-id")
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def trace_of(head: Head) -> bytes | None:
    """The caller's traceparent, when it follows W3C Trace Context."""
    value = head.value(b"traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
