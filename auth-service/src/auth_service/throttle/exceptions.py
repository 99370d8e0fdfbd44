"""Why a sign-in is not even tried."""

from http import HTTPStatus

from auth_service.exceptions import OAuthError


class TooManyAttempts(OAuthError):
    """The same for every account, existing or not."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    error = "invalid_grant"
    code = "too_many_attempts"
    description = "Too many failed sign-ins. Wait as long as Retry-After says."
