"""Why a credential is refused."""

from http import HTTPStatus

from service_kit.problems import Problem


class WrongPassword(Problem):
    status, code = HTTPStatus.FORBIDDEN, "wrong_password"
    title = "The current password is not right"
    detail = "Send the password that the account has now."


class PasswordChangedMeanwhile(Problem):
    status, code = HTTPStatus.CONFLICT, "password_changed_meanwhile"
    title = "The password was changed by another request just now"
    detail = "Sign in again, and change it from there."
