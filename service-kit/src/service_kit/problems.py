"""Errors as problem details (RFC 9457): raised as classes, rendered once at the edge."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success. Subclasses say status, code and title; an instance the detail, and a
    narrower code where one class stands for several reasons."""

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: str = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.headers = dict(headers or {})
        self.members = members


def body(status: int, code: str, title: str, detail: str, request_id: str, **members: object) -> bytes:
    """The JSON of one problem: type, title, status, detail, code, request_id, instance and the members given.

    `instance` names the request and not its path, so that nothing a client sent comes back.
    """
    problem = {
        "type": f"urn:problem-type:{code}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "code": code,
        "request_id": request_id,
        "instance": f"urn:request:{request_id}",
    }
    return json.dumps(members | problem, separators=(",", ":")).encode()
