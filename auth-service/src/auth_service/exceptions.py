"""Refusals that more than one domain speaks of."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, ClassVar

from service_kit.problems import ApiError, Problem


class Unavailable(Problem):
    """A part we need does not answer; nothing is wrong with the request, and it may be sent again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "A part that this request needs does not answer"
    detail = "Try again shortly: nothing is wrong with the request."

    def __init__(self, retry_after: int = 1) -> None:
        # A standard OAuth client looks for `error`, whatever the media type.
        super().__init__(
            headers={"retry-after": str(retry_after), "cache-control": "no-store"},
            error="temporarily_unavailable",
            error_description=self.title,
        )


class OAuthError(ApiError):
    """A refusal in OAuth's own JSON (RFC 6749 section 5.2): `error` is standard, `code` finer and ours."""

    media_type: ClassVar[str] = "application/json"
    schema: ClassVar[str] = "ErrorResponse"
    status: ClassVar[int] = HTTPStatus.BAD_REQUEST
    error = "invalid_request"
    code = "invalid_request"
    description = "The request is malformed."

    def __init__(self, description: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(description or self.description)
        self.description = description or self.description
        self.headers = headers or {}

    @classmethod
    def examples(cls) -> Iterator[tuple[str, dict[str, Any]]]:
        body = {"error": cls.error, "error_description": cls.description, "code": cls.code}
        yield cls.code, body


class InvalidRequest(OAuthError):
    pass


class InvalidGrant(OAuthError):
    error = "invalid_grant"


class InvalidScope(OAuthError):
    error = code = "invalid_scope"
    description = "The requested scope exceeds the granted one."
