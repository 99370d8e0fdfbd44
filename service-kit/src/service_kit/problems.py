"""Errors as problem details (RFC 9457): raised as classes, rendered once at the edge."""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

MEDIA_TYPE: Final = "application/problem+json"
SCHEMA: Final = "Problem"  # its name in OpenAPI documents
EXAMPLE_ID: Final = "0191e4a0c5d27b3e8f6a1b2c3d4e5f60"


class ApiError(Exception):
    """What can stand in an OpenAPI document: a Problem, or a class of answers in another form."""

    media_type: ClassVar[str] = MEDIA_TYPE
    schema: ClassVar[str] = SCHEMA
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR

    @classmethod
    def examples(cls) -> Iterator[tuple[str, dict[str, Any]]]:
        """One body for each code."""
        raise NotImplementedError


class Problem(ApiError):
    """An answer that is not a success. Subclasses say status, code, title (what happened) and detail (what to do
    next); an instance a closer detail, and one of `codes` where one class stands for several reasons."""

    code: str = "internal_error"
    codes: ClassVar[Mapping[str, str]] = {}  # narrower ones, each with its detail
    title: ClassVar[str] = "Internal error"
    detail: str = "The error is logged. Report it with this request id."

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        self.code = code or self.code
        self.detail = detail or self.codes.get(self.code, self.detail)
        super().__init__(self.detail)
        self.headers = dict(headers or {})
        self.members = members

    @classmethod
    def examples(cls) -> Iterator[tuple[str, dict[str, Any]]]:
        for code, detail in (cls.codes or {cls.code: cls.detail}).items():
            yield code, json.loads(body(cls.status, code, cls.title, detail, EXAMPLE_ID))


def body(status: int, code: str, title: str, detail: str, request_id: str, **members: object) -> bytes:
    """The JSON of one problem: type, title, status, detail, code, request_id, instance and the members given.

    `instance` names the request and not its path, so that nothing a client sent comes back.
    """
    problem = {
        "type": f"urn:problem-type:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "instance": f"urn:request:{request_id}",
    }
    return json.dumps(members | problem, separators=(",", ":")).encode()
