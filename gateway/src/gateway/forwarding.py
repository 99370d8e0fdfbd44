"""What crosses the gateway, in both directions, and what is stripped or added on the way."""

import os
import re
from typing import Final, NamedTuple

from gateway.passage import Passage
from gateway.request import DROP, PASS, Head, LoopDetected, request_id_of, trace_of
from service_kit.addresses import ClientAddress

VIA: Final = b"1.1 gatehouse"

_ANSWER_COLLECTED: Final = frozenset(
    b"content-length transfer-encoding connection upgrade content-type".split()
)
# HSTS and nosniff belong to the gateway alone, and so does CORS (access-control-*, below).
_ANSWER_DROPPED: Final = frozenset(
    b"keep-alive proxy-connection proxy-authenticate te trailer x-request-id "
    b"strict-transport-security x-content-type-options".split()
)
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MEMO_LIMIT: Final = 4096
_treatments: dict[bytes, bytes] = {}
_statuses: dict[bytes, "Status"] = {}


class BadAnswer(Exception):
    """An upstream's answer that has more than one reading, or none."""


class Status(NamedTuple):
    """What a status line says, and how it is said to the client."""

    code: int
    http11: bool
    line: bytes


class Ids:
    """Request ids: 128 random bits in hexadecimal, cut from a block, as asking for each would cost ten times that."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def new(self) -> bytes:
        if self._at == len(self._block):
            self._block = os.urandom(4096).hex().encode()
            self._at = 0
        self._at += 32
        return self._block[self._at - 32 : self._at]


new_request_id: Final = Ids().new


class Answer:
    """The head of an upstream's answer."""

    __slots__ = (
        "chunked",
        "connection",
        "event_stream",
        "fields",
        "http11",
        "keep_alive",
        "length",
        "status",
        "status_line",
        "upgrade",
    )

    def __init__(self, said: Status) -> None:
        self.status, self.http11, self.status_line = said
        self.connection: list[bytes] | None = None
        self.fields: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = self.http11
        self.upgrade: bytes | None = None
        self.event_stream = False


def name(passage: Passage) -> None:
    """Gives the request its id and trace: the caller's where well-formed, else new ones."""
    head = passage.head
    bits = new_request_id()
    passage.request_id = (request_id_of(head) if b"x-request-id" in head.others else None) or bits
    trace = trace_of(head) if b"traceparent" in head.others else None
    passage.trace = trace or b"00-%b-%b-00" % (bits, bits[16:])


def prepare(passage: Passage, authority: bytes) -> bytes:
    """The request head as it goes to the upstream."""
    head = passage.head
    target = head.target if passage.route.rewrite is None else passage.route.rewritten(head.target)
    if not head.crossing:
        head.crossing = _crossing(head)
    return (
        b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n"
        b"X-Forwarded-Host: %b\r\nX-Request-Id: %b\r\ntraceparent: %b\r\n\r\n"
    ) % (
        *(head.method, target, authority, head.crossing, _switching(passage) if passage.upgrading else b""),
        *(passage.client, passage.scheme, head.host, passage.request_id, passage.trace),
    )


def _crossing(head: Head) -> bytes:
    """The fields that follow from the client's alone, each with a line end before it."""
    others = head.others
    lines = [b"", *head.fields]
    if head.authorization:
        lines.append(b"Authorization: " + head.authorization[0])
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length is not None:
        lines.append(b"Content-Length: %d" % head.length)
    lines.extend(b"Origin: " + value for value in others.get(b"origin", ()))
    asked = others.get(b"access-control-request-method", ())
    lines.extend(b"Access-Control-Request-Method: " + value for value in asked)
    if head.expects_continue:
        lines.append(b"Expect: 100-continue")
    if b"max-forwards" in others and (hops := head.value(b"max-forwards")) and hops.isdigit():
        lines.append(b"Max-Forwards: %d" % max(0, int(hops[:9]) - 1))
    via = VIA if b"via" not in others or b"via" in head.named else b", ".join((*others[b"via"], VIA))
    lines.append(b"Via: " + via)
    return b"\r\n".join(lines)


def _switching(passage: Passage) -> bytes:
    """What asks the upstream to switch to WebSocket."""
    key = passage.head.others[b"sec-websocket-key"][0]
    lines = (
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + key
    )
    return lines + b"\r\nSec-WebSocket-Protocol: " + passage.subprotocols if passage.subprotocols else lines


def locate(passage: Passage, proxies: ClientAddress | None) -> None:
    """Where the request comes from: the connection's peer, or what a trusted proxy says."""
    if proxies is None:
        return
    head = passage.head
    peer = head.peer.decode()
    passage.client = proxies.of(peer, head.others.get(b"x-forwarded-for", ())).encode()
    passage.scheme = proxies.scheme(peer, head.others.get(b"x-forwarded-proto", ()), "http").encode()


def refuse_loops(head: Head) -> None:
    """A request that already names us in Via came from ourselves."""
    if b"via" not in head.others:
        return
    for value in head.others[b"via"]:
        if any(hop.strip().lower() == VIA for hop in value.split(b",")):
            raise LoopDetected


def read_answer(block: bytes) -> Answer:
    """Reads an answer's head, without its closing empty line; llhttp has to accept the same bytes."""
    lines = block.split(b"\r\n")
    answer = Answer(_statuses.get(lines[0]) or _read_status(lines[0]))
    fields = answer.fields
    for index in range(1, len(lines)):
        line = lines[index]
        name, colon, value = line.partition(b":")
        treatment = _treatments.get(name)
        if treatment is None:
            treatment = _classify(name)
        if not colon:
            raise BadAnswer("a header line has no colon")
        if treatment is PASS:
            fields.append(line)
        elif treatment is not DROP:
            _interpret(answer, treatment, value.strip(b" \t"), line)
    if answer.chunked and (answer.length is not None or not answer.http11):
        raise BadAnswer("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if answer.connection is not None:
        _read_connection(answer, answer.connection)
    return answer


def _read_status(line: bytes) -> Status:
    version, code, reason = line[:9], line[9:12], line[9:]
    if not code.isdigit() or line[12:13] not in (b" ", b""):
        raise BadAnswer("the status line is not one")
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise BadAnswer("the status line is not HTTP/1.1 or HTTP/1.0")
    if not 100 <= int(code) < 600:
        raise BadAnswer("the status is out of range")
    ours = b"HTTP/1.1 " + (reason if len(reason) > 3 else reason + b" ")
    status = Status(int(code), version == b"HTTP/1.1 ", ours)
    if len(_statuses) < _MEMO_LIMIT and len(line) <= 64:
        _statuses[line] = status
    return status


def _classify(name: bytes) -> bytes:
    if not _FIELD_NAME.fullmatch(name):
        raise BadAnswer("a header name is empty, or holds a character that has no place there")
    lower = name.lower()
    if lower in _ANSWER_COLLECTED:
        treatment = lower
    elif lower in _ANSWER_DROPPED or lower.startswith(b"access-control-"):
        treatment = DROP
    else:
        treatment = PASS
    if len(_treatments) < _MEMO_LIMIT and len(name) <= 64:
        _treatments[name] = treatment
    return treatment


def _interpret(answer: Answer, name: bytes, value: bytes, line: bytes) -> None:
    if name == b"content-type":
        answer.fields.append(line)
        answer.event_stream = value[:17].lower() == b"text/event-stream"
    elif name == b"content-length":
        if answer.length is not None or not value.isdigit() or len(value) > 18:
            raise BadAnswer("Content-Length is not one decimal number")
        answer.length = int(value)
    elif name == b"transfer-encoding":
        if answer.chunked or value.lower() != b"chunked":
            raise BadAnswer("a transfer coding other than chunked")
        answer.chunked = True
    elif name == b"upgrade":
        answer.upgrade = value
    elif value == b"keep-alive":  # what most say, and nothing else
        answer.keep_alive = True
    else:
        answer.connection = [*(answer.connection or ()), value]


def _read_connection(answer: Answer, values: list[bytes]) -> None:
    named = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
    if b"close" in named:
        answer.keep_alive = False
    elif b"keep-alive" in named:
        answer.keep_alive = True
    named -= {b"close", b"keep-alive", b"upgrade", b""}
    if named:
        answer.fields = [line for line in answer.fields if line.partition(b":")[0].lower() not in named]
