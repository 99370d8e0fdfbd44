"""Errors as problem details (RFC 9457): raised as classes, rendered once at the edge."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from fastapi import FastAPI

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success. Subclasses say status, code and title; an instance the detail."""

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


def body(status: int, code: str, title: str, detail: str, request_id: str, **members: object) -> bytes:
    """The JSON of one problem: type, title, status, detail, code, request_id, instance and the members given."""
    raise NotImplementedError


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem: Problem, 422, HTTPException, and 500 for what is unhandled."""
    raise NotImplementedError
