"""Why a request about a person is refused."""

from http import HTTPStatus

from service_kit.problems import Problem


class EmailTaken(Problem):
    status, code = HTTPStatus.CONFLICT, "email_taken"
    title = "This e-mail address already has an account"
    detail = "Sign in, or ask for a mail to reset the password."


class UserNotFound(Problem):
    status, code = HTTPStatus.NOT_FOUND, "user_not_found"
    title = "The person does not exist"
    detail = "Check the id. Erasure is final."


class NotAllowed(Problem):
    status, code = HTTPStatus.FORBIDDEN, "not_allowed"
    title = "Only the person and administrators may do this"
    detail = "Ask for your own data, or as an administrator."


class NotAPerson(Problem):
    status, code = HTTPStatus.FORBIDDEN, "not_a_person"
    title = "This token belongs to a client, not to a person"
    detail = "Sign a person in, and send their token."


class OwnAccount(Problem):
    """Keeps administrators from shutting themselves out by a slip."""

    status, code = HTTPStatus.CONFLICT, "own_account"
    title = "An administrator cannot do this to their own account"
    detail = "Another administrator has to do it."


class LastAdministrator(Problem):
    """Else nobody could make anyone an administrator again, but for an operator at the command line."""

    status, code = HTTPStatus.CONFLICT, "last_administrator"
    title = "This is the last active administrator"
    detail = "Make somebody else an administrator first."


class NotDeleted(Problem):
    status, code = HTTPStatus.CONFLICT, "not_deleted"
    title = "Only a deleted person can be restored or erased"
    detail = "Delete the person first."


class IdempotencyKeyInvalid(Problem):
    status, code = HTTPStatus.BAD_REQUEST, "idempotency_key_invalid"
    title = "An Idempotency-Key is 1 to 255 printable ASCII characters"
    detail = "Make one for each request, such as a UUID, and send the same one when you repeat it."


class IdempotencyKeyReused(Problem):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused"
    title = "This Idempotency-Key was used with another body"
    detail = "Make a new key for each different request."


class RequestInProgress(Problem):
    status, code = HTTPStatus.CONFLICT, "request_in_progress"
    title = "The first request with this Idempotency-Key is still under way"
    detail = "Wait as long as `Retry-After` says, then repeat it with the same key."
