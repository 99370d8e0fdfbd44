"""Why a sign-in is not even tried."""

from http import HTTPStatus

from auth_service.exceptions import OAuthError


class TooManyAttempts(OAuthError):
    """The same for every account, existing or not."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    error = "invalid_grant"
    code = "too_many_attempts"
    description = "Too many failed sign-ins. Wait as long as Retry-After says."

    def __init__(self, allowance: str, headers: dict[str, str]) -> None:
        """`allowance` is the name of the one that is spent."""
        super().__init__(headers=headers)
        self.allowance = allowance
