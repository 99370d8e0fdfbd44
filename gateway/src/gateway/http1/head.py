"""The head of a request: what it said before its body, and what it can be refused for."""

from http import HTTPStatus
from typing import Final

from service_kit.problems import Problem
from service_kit.tracing import REQUEST_ID, TRACEPARENT

_NOTHING: Final = frozenset[bytes]()


class BadRequest(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "bad_request", "The request is not well-formed"
    detail = "Send it in the form of RFC 9112, as a common HTTP client does."


class AmbiguousPath(Problem):
    status, code, title = (
        HTTPStatus.BAD_REQUEST,
        "ambiguous_path",
        "The path can be read in more than one way",
    )
    detail = "Send the path without empty or dot segments, and percent-encoded once."


class LengthUnclear(Problem):
    status, code, title = HTTPStatus.BAD_REQUEST, "bad_framing", "The length of the body is not clear"
    detail = "Send one `Content-Length`, or the chunked transfer coding, and not both."


class CodingUnknown(Problem):
    status, code, title = (
        HTTPStatus.NOT_IMPLEMENTED,
        "transfer_coding",
        "The transfer coding is not supported",
    )
    detail = "Send the body chunked, or with its length."


class MethodUnknown(Problem):
    status, code, title = (
        HTTPStatus.NOT_IMPLEMENTED,
        "method_not_implemented",
        "The method is not implemented",
    )
    detail = "Send a method that HTTP defines, in upper case."


class TargetTooLong(Problem):
    status, code, title = HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", "The request target is too long"
    detail = "Shorten the query, or send it in a body."


class HeadTooLarge(Problem):
    status, code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"
    title = "The headers are too large or too many"
    detail = "Send fewer or shorter headers. A cookie is often the reason."


class BodyTooLarge(Problem):
    status, code, title = (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        "The body is larger than this route takes",
    )
    detail = "Send a smaller body."


class ExpectationUnknown(Problem):
    status, code, title = (
        HTTPStatus.EXPECTATION_FAILED,
        "expectation_failed",
        "The expectation is not supported",
    )
    detail = "Leave `Expect` out, or send `100-continue`."


class LoopDetected(Problem):
    status, code, title = (
        HTTPStatus.LOOP_DETECTED,
        "loop_detected",
        "The request has passed this gateway before",
    )
    detail = "An operator checks where the route leads."


class Head:
    """What a request said before its body."""

    __slots__ = (
        "authorization",
        "bearer",
        "chunked",
        "crossing",
        "digest",
        "expects_continue",
        "has_body",
        "headers",
        "host",
        "http11",
        "keep_alive",
        "length",
        "method",
        "named",
        "others",
        "path",
        "peer",
        "refusal",
        "repeatable",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, http11: bool, host: bytes = b"") -> None:
        self.method = method
        self.target = target  # origin-form, as it will be forwarded
        self.path = target.partition(b"?")[0]
        self.peer = b""
        self.http11 = http11
        self.host = host  # the target's own, else the field's
        self.headers: list[bytes] = []  # the lines that cross as they came
        self.others: dict[bytes, list[bytes]] = {}
        self.named: frozenset[bytes] | set[bytes] = _NOTHING  # by Connection, in lower case
        self.authorization: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.has_body = False
        self.keep_alive = http11
        self.expects_continue = False
        self.upgrade: tuple[bytes, ...] = ()  # the protocols that it offers, in lower case
        self.refusal: Problem | None = None  # why its fields cannot be relied on
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
        head.path = target.partition(b"?")[0]
        head.peer = self.peer
        head.http11 = True
        head.host = self.host
        head.headers = self.headers
        head.others = self.others
        head.named = self.named
        head.authorization = self.authorization
        head.length = self.length
        head.chunked = False
        head.has_body = False
        head.keep_alive = self.keep_alive
        head.expects_continue = False
        head.upgrade = ()
        head.refusal = None
        head.repeatable = True
        head.bearer = self.bearer
        head.digest = self.digest
        head.crossing = self.crossing
        return head

    def value(self, name: bytes) -> bytes | None:
        """The one value of a collected field; None when absent or given more than once."""
        values = self.others.get(name)
        return values[0] if values is not None and len(values) == 1 else None


def request_id_of(head: Head) -> bytes | None:
    """The caller's X-Request-Id, when it is one that can be logged and passed on."""
    value = head.value(b"x-request-id")
    return value if value is not None and REQUEST_ID.fullmatch(value) else None


def trace_of(head: Head) -> bytes | None:
    """The caller's traceparent, when it follows W3C Trace Context; that of a later version as one of version 00."""
    value = head.value(b"traceparent")
    if value is None or not TRACEPARENT.fullmatch(value):
        return None
    return value if value.startswith(b"00") else b"00" + value[2:55]
