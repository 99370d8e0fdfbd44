"""Refusals that more than one domain speaks of."""

from http import HTTPStatus

from service_kit.problems import Problem


class Unavailable(Problem):
    """A part we need does not answer; nothing is wrong with the request, and it may be sent again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = "A part that this request needs does not answer"

    def __init__(self, retry_after: int = 1) -> None:
        # A standard OAuth client looks for `error`, whatever the media type.
        super().__init__(
            headers={"retry-after": str(retry_after), "cache-control": "no-store"},
            error="temporarily_unavailable",
            error_description=self.title,
        )


class OAuthError(Exception):
    """A refusal in OAuth's own JSON (RFC 6749 section 5.2): `error` is standard, `code` finer and ours."""

    status = HTTPStatus.BAD_REQUEST
    error = "invalid_request"
    code = "invalid_request"
    description = "The request is malformed."

    def __init__(self, description: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(description or self.description)
        self.description = description or self.description
        self.headers = headers or {}


class InvalidRequest(OAuthError):
    pass


class InvalidGrant(OAuthError):
    error = "invalid_grant"


class InvalidScope(OAuthError):
    error = code = "invalid_scope"
    description = "The scope asked for exceeds what was granted."
