"""The gateway's own answers, as bytes: problem details (RFC 9457) and the empty ones."""

from collections.abc import Mapping
from http import HTTPStatus
from time import time

from gateway.clock import date
from gateway.passage import Passage
from service_kit import problems
from service_kit.problems import Problem

_NO_BODY: Mapping[str, str] = {}


def own_answer(passage: Passage, problem: Problem | None, own_fields: bytes, close: bool) -> bytes:
    """What answers this request: a problem, or without one the 204 of a preflight; `own_fields` are on every answer."""
    if problem is None:
        return (
            b"\r\n".join(_opening(204, passage.request_id, own_fields, passage.answer_fields, close))
            + b"\r\n\r\n"
        )
    return problem_answer(
        problem,
        request_id=passage.request_id,
        own_fields=own_fields,
        extra_fields=passage.answer_fields,
        close=close,
        head_only=passage.head.method == b"HEAD",
    )


def unread_answer(problem: Problem, request_id: bytes, own_fields: bytes, head_only: bool) -> bytes:
    """What answers bytes that could not be read as a request."""
    return problem_answer(
        problem,
        request_id=request_id,
        own_fields=own_fields,
        extra_fields=b"",
        close=True,
        head_only=head_only,
    )


def problem_answer(
    problem: Problem,
    *,
    request_id: bytes,
    own_fields: bytes,
    extra_fields: bytes,
    close: bool,
    head_only: bool,
) -> bytes:
    """A whole answer that says what went wrong and under which id it can be found in the logs; `extra_fields` are on
    this one only."""
    status, said = int(problem.status), request_id.decode()
    body = problems.body(status, problem.code, problem.title, problem.detail, said, **problem.members)
    lines = _opening(status, request_id, own_fields, extra_fields, close)
    lines.append(b"Content-Type: application/problem+json")
    lines.append(b"Cache-Control: no-store")
    lines.append(b"Content-Length: %d" % len(body))
    for name, value in (problem.headers or _NO_BODY).items():
        lines.append(f"{name}: {value}".encode("latin-1"))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)


def _opening(
    status: int, request_id: bytes, own_fields: bytes, extra_fields: bytes, close: bool
) -> list[bytes]:
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        b"X-Request-Id: " + request_id,
        own_fields,
        date(int(time())),
    ]
    if extra_fields:
        lines.append(extra_fields)
    if close:
        lines.append(b"Connection: close")
    return lines
