"""Why a credential is refused."""

from http import HTTPStatus

from service_kit.problems import Problem


class WrongPassword(Problem):
    status, code = HTTPStatus.FORBIDDEN, "wrong_password"
    title = "The current password is wrong"
    detail = "Send the account's current password."


class PasswordChangedMeanwhile(Problem):
    status, code = HTTPStatus.CONFLICT, "password_changed_meanwhile"
    title = "Another request has just changed the password"
    detail = "Sign in again, and then change it."
