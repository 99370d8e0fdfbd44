"""The gateway's own answers, as bytes: problem details (RFC 9457) and the empty ones."""

from collections.abc import Mapping
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING

from gateway.clock import date
from service_kit import problems
from service_kit.problems import Problem

if TYPE_CHECKING:
    from gateway.policy.proxy_request import ProxyRequest

_NO_BODY: Mapping[str, str] = {}


def own_response(request: "ProxyRequest", problem: Problem | None, own_headers: bytes, close: bool) -> bytes:
    """What answers this request: a problem, or without one the 204 of a preflight; `own_headers` are on every answer."""
    if problem is None:
        return (
            b"\r\n".join(_opening(204, request.request_id, own_headers, request.response_headers, close))
            + b"\r\n\r\n"
        )
    return problem_response(
        problem,
        request_id=request.request_id,
        own_headers=own_headers,
        extra_headers=request.response_headers,
        close=close,
        head_only=request.head.method == b"HEAD",
    )


def unread_response(problem: Problem, request_id: bytes, own_headers: bytes, head_only: bool) -> bytes:
    """What answers bytes that could not be read as a request."""
    return problem_response(
        problem,
        request_id=request_id,
        own_headers=own_headers,
        extra_headers=b"",
        close=True,
        head_only=head_only,
    )


def problem_response(
    problem: Problem,
    *,
    request_id: bytes,
    own_headers: bytes,
    extra_headers: bytes,
    close: bool,
    head_only: bool,
) -> bytes:
    """A whole answer that says what went wrong and under which id it can be found in the logs; `extra_headers` are on
    this one only."""
    status, said = int(problem.status), request_id.decode()
    body = problems.body(status, problem.code, problem.title, problem.detail, said, **problem.members)
    lines = _opening(status, request_id, own_headers, extra_headers, close)
    lines.append(b"Content-Type: application/problem+json")
    lines.append(b"Cache-Control: no-store")
    lines.append(b"Content-Length: %d" % len(body))
    for name, value in (problem.headers or _NO_BODY).items():
        lines.append(f"{name}: {value}".encode("latin-1"))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)


def _opening(
    status: int, request_id: bytes, own_headers: bytes, extra_headers: bytes, close: bool
) -> list[bytes]:
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        b"X-Request-Id: " + request_id,
        own_headers,
        date(int(time())),
    ]
    if extra_headers:
        lines.append(extra_headers)
    if close:
        lines.append(b"Connection: close")
    return lines
