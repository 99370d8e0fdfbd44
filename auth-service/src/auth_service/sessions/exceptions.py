"""Why a refresh token is refused."""

from http import HTTPStatus

from auth_service.exceptions import InvalidGrant
from service_kit.problems import Problem
from service_kit.response_revocations import headers
from service_kit.revocations import Revocation


class RefreshTokenInvalid(InvalidGrant):
    code = "refresh_token_invalid"
    description = "The refresh token is not from this system. Sign in again."


class RefreshTokenReused(InvalidGrant):
    code = "refresh_token_reused"
    description = "The refresh token was used before, so the session has been ended. Sign in again."


class SessionEnded(InvalidGrant):
    code = "session_ended"
    description = "The session has ended or expired. Sign in again."

    def __init__(self, revocation: Revocation) -> None:
        """Whoever hears it proved the token, and so the session's id."""
        super().__init__(headers=headers([revocation]))
        self.session_id = revocation.value


class SessionForged(SessionEnded):
    """What the store holds is not as we wrote it, so no more than the id is known; `reason` is for the audit alone."""

    reason = "session_forged"


class SessionUnknown(Problem):
    status = HTTPStatus.NOT_FOUND
    code = "session_unknown"
    title = "This person has no such session"
    detail = "`GET /auth/sessions` lists the live sessions. This one may have ended."


class NotAPerson(Problem):
    status = HTTPStatus.FORBIDDEN
    code = "not_a_person"
    title = "This token belongs to a client, not to a person"
    detail = "Sign a person in, and send their token."
