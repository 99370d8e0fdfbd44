"""Why a grant is refused."""

from auth_service.exceptions import InvalidGrant, OAuthError


class UnsupportedGrantType(OAuthError):
    error = code = "unsupported_grant_type"
    description = "The grant type is not supported, or is switched off."


class InvalidCredentials(InvalidGrant):
    """One answer for an unknown, wrong, disabled or unverified account."""

    code = "invalid_credentials"
    description = "The e-mail address or the password is wrong."

    def __init__(self, reason: str, headers: dict[str, str]) -> None:
        """`reason` is for the audit alone."""
        super().__init__(headers=headers)
        self.reason = reason


class AccountInactive(InvalidGrant):
    code = "account_inactive"
    description = "The account is no longer active, so the session has been ended."


class CredentialsChanged(InvalidGrant):
    code = "credentials_changed"
    description = (
        "The password or the account's state has changed, so the session has been ended. Sign in again."
    )


class WrongClient(InvalidGrant):
    code = "wrong_client"
    description = "The token was issued to another client."


class InvalidTarget(OAuthError):
    """RFC 8707."""

    error = code = "invalid_target"
    description = "This client may not ask for that audience."
