"""Why user-service could not be asked."""

from auth_service.exceptions import Unavailable


class UsersUnavailable(Unavailable):
    code = "users_unavailable"
    title = "The user service does not answer"
