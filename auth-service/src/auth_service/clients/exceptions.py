"""Why a client is refused."""

from http import HTTPStatus

from auth_service.exceptions import OAuthError


class InvalidClient(OAuthError):
    status = HTTPStatus.UNAUTHORIZED
    error = code = "invalid_client"
    description = "The client is unknown or its secret is wrong."

    def __init__(self) -> None:
        # RFC 9110 wants a challenge on every 401, and RFC 6749 this one where Basic was used.
        super().__init__(headers={"www-authenticate": 'Basic realm="auth"'})


class ClientForged(InvalidClient):
    """What the store holds for this client is not what a command has written; `reason` is for the audit alone."""

    reason = "client_forged"


class UnauthorizedClient(OAuthError):
    error = code = "unauthorized_client"
    description = "This client may not use this grant."


class ClientFault(Exception):
    """What an operator asked for cannot be done; the text says why."""

    code = "client_fault"
