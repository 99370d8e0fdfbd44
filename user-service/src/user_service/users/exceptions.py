"""Why a request about a person is refused."""

from http import HTTPStatus

from service_kit.problems import Problem


class EmailTaken(Problem):
    status, code = HTTPStatus.CONFLICT, "email_taken"
    title = "This e-mail address already has an account"


class UserNotFound(Problem):
    status, code = HTTPStatus.NOT_FOUND, "user_not_found"
    title = "There is no such person"


class NotAllowed(Problem):
    status, code = HTTPStatus.FORBIDDEN, "not_allowed"
    title = "Only the person and administrators may do this"


class NotAPerson(Problem):
    status, code = HTTPStatus.FORBIDDEN, "not_a_person"
    title = "This token belongs to a client, not to a person"


class OwnAccount(Problem):
    """Keeps administrators from shutting themselves out by a slip."""

    status, code = HTTPStatus.CONFLICT, "own_account"
    title = "An administrator cannot do this to their own account"


class LastAdministrator(Problem):
    """Else nobody could make anyone an administrator again, but for an operator at the command line."""

    status, code = HTTPStatus.CONFLICT, "last_administrator"
    title = "This is the last active administrator: make somebody else one first"


class NotDeleted(Problem):
    status, code = HTTPStatus.CONFLICT, "not_deleted"
    title = "Only a deleted person can be restored or erased"


class IdempotencyKeyInvalid(Problem):
    status, code = HTTPStatus.BAD_REQUEST, "idempotency_key_invalid"
    title = "An Idempotency-Key is 1 to 255 printable ASCII characters"


class IdempotencyKeyReused(Problem):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused"
    title = "This Idempotency-Key was used with another body"


class RequestInProgress(Problem):
    status, code = HTTPStatus.CONFLICT, "request_in_progress"
    title = "The first request with this Idempotency-Key is still being answered"
