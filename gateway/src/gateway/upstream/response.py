"""The head of an upstream's answer: read one way, or not passed on at all."""

import re
from itertools import islice
from typing import Final, NamedTuple

from gateway.http1.headers import DROP, PASS, REVOKED

LENGTH: Final = b"content-length"
DATE: Final = b"date"
_COLLECTED: Final = frozenset((*b"transfer-encoding connection upgrade content-type".split(), REVOKED))
# HSTS and nosniff belong to the gateway alone, and so does CORS (access-control-*, below).
_DROPPED: Final = frozenset(
    b"keep-alive proxy-connection proxy-authenticate te trailer x-request-id "
    b"strict-transport-security x-content-type-options "
    # What a browser would take for the word of all services of the origin: one of them could have every address that a
    # person opens reported to itself, put a script before everybody's pages, or sign people out.
    b"nel report-to service-worker-allowed clear-site-data alt-svc expect-ct public-key-pins".split()
)
_HEADER_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Fields that a service mostly gives the same value, and that hold nobody's secret: their lines are remembered whole.
_STEADY: Final = frozenset(
    b"server date cache-control vary content-language content-encoding accept-ranges allow age content-security-policy "
    b"cross-origin-opener-policy cross-origin-resource-policy permissions-policy referrer-policy x-frame-options "
    b"content-type content-length connection transfer-encoding".split()
)
# All that a line may be made of.
_TEXT: Final = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_MEMO_LIMIT: Final = 4096
_treatments: dict[bytes, bytes] = {}
_statuses: dict[bytes, "Status"] = {}
_lines: dict[bytes, tuple[bytes, bytes]] = {}  # treatment and value


class BadResponse(Exception):
    """An upstream's answer that has more than one reading, or none."""


class Status(NamedTuple):
    """What a status line says, and how it is said to the client."""

    code: int
    http11: bool
    line: bytes


class Response:
    """The head of an upstream's answer."""

    __slots__ = (
        "chunked",
        "connection",
        "dated",
        "event_stream",
        "headers",
        "http11",
        "keep_alive",
        "length",
        "revoked",
        "status",
        "status_line",
        "upgrade",
    )

    def __init__(self, said: Status) -> None:
        self.status, self.http11, self.status_line = said
        self.connection: list[bytes] | None = None
        self.headers: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = self.http11
        self.upgrade: bytes | None = None
        self.dated = False
        self.event_stream = False
        self.revoked: list[bytes] = []  # what the service says has ended, which is not passed on


def read_response(block: bytes) -> Response:
    """Reads an answer's head, without its closing empty line."""
    lines = block.split(b"\r\n")
    response = Response(_statuses.get(lines[0]) or _read_status(lines[0]))
    headers = response.headers
    for line in islice(lines, 1, None):
        treatment, value = _lines.get(line) or _read_line(line)
        if treatment is PASS:
            headers.append(line)
        elif treatment is LENGTH and response.length is None:
            response.length = int(value)
        elif treatment is DATE:
            headers.append(line)
            response.dated = True
        elif treatment is not DROP:
            _interpret(response, treatment, value, line)
    if response.chunked and (response.length is not None or not response.http11):
        raise BadResponse("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if response.connection is not None:
        _read_connection(response, response.connection)
    return response


def _read_line(line: bytes) -> tuple[bytes, bytes]:
    """What becomes of a field, and its value."""
    name, colon, value = line.partition(b":")
    treatment = _treatments.get(name)
    if treatment is None:
        treatment = _classify(name)
    if not colon:
        raise BadResponse("a header line has no colon")
    _check_text(line)
    value = value.strip(b" \t")
    if treatment is LENGTH and (not value.isdigit() or len(value) > 18):
        raise BadResponse("Content-Length is not one decimal number")
    if treatment == b"content-type" and value[:17].lower() != b"text/event-stream":
        treatment = PASS
    read = treatment, value
    if name.lower() in _STEADY and len(line) <= 128:
        if len(_lines) >= _MEMO_LIMIT:
            _lines.clear()  # Date has another value every second
        _lines[line] = read
    return read


def _check_text(line: bytes) -> None:
    if line.translate(None, _TEXT):
        raise BadResponse("the head holds a control character")


def _read_status(line: bytes) -> Status:
    version, code, reason = line[:9], line[9:12], line[9:]
    if not code.isdigit() or line[12:13] not in (b" ", b""):
        raise BadResponse("the status line is malformed")
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise BadResponse("the status line is not HTTP/1.1 or HTTP/1.0")
    if not 100 <= int(code) < 600:
        raise BadResponse("the status is out of range")
    _check_text(line)
    ours = b"HTTP/1.1 " + (reason if len(reason) > 3 else reason + b" ")
    status = Status(int(code), version == b"HTTP/1.1 ", ours)
    if len(line) <= 64:
        if len(_statuses) >= _MEMO_LIMIT:
            _statuses.clear()
        _statuses[line] = status
    return status


def _classify(name: bytes) -> bytes:
    if not _HEADER_NAME.fullmatch(name):
        raise BadResponse("a header name is empty, or holds a forbidden character")
    lower = name.lower()
    if lower == LENGTH:
        treatment = LENGTH
    elif lower == DATE:
        treatment = DATE
    elif lower in _COLLECTED:
        treatment = lower
    elif lower in _DROPPED or lower.startswith(b"access-control-"):
        treatment = DROP
    else:
        treatment = PASS
    if len(name) <= 64:
        if len(_treatments) >= _MEMO_LIMIT:
            _treatments.clear()  # whoever filled it shall not keep it from everybody
        _treatments[name] = treatment
    return treatment


def _interpret(response: Response, name: bytes, value: bytes, line: bytes) -> None:
    if name is LENGTH:
        raise BadResponse("Content-Length is sent twice")
    if name == b"content-type":  # of an event stream
        response.headers.append(line)
        response.event_stream = True
    elif name == b"transfer-encoding":
        if response.chunked or value.lower() != b"chunked":
            raise BadResponse("a transfer coding other than chunked")
        response.chunked = True
    elif name == b"upgrade":
        response.upgrade = value
    elif name == REVOKED:
        response.revoked.append(value)
    elif value == b"keep-alive":  # what most say, and nothing else
        response.keep_alive = True
    else:
        response.connection = [*(response.connection or ()), value]


def _read_connection(response: Response, values: list[bytes]) -> None:
    named = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
    if b"close" in named:
        response.keep_alive = False
    elif b"keep-alive" in named:
        response.keep_alive = True
    named -= {b"close", b"keep-alive", b"upgrade", b""}
    if named:
        response.headers = [line for line in response.headers if line.partition(b":")[0].lower() not in named]
        response.dated = response.dated and DATE not in named
