"""Why a credential is refused."""

from http import HTTPStatus
from typing import ClassVar

from service_kit.problems import Problem


class WrongPassword(Problem):
    status: ClassVar[int] = HTTPStatus.FORBIDDEN
    code = "wrong_password"
    title = "The current password is not right"


class PasswordChangedMeanwhile(Problem):
    status: ClassVar[int] = HTTPStatus.CONFLICT
    code = "password_changed_meanwhile"
    title = "The password was changed by another request just now"


class PasswordRefused(Problem):
    status: ClassVar[int] = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "password_refused"
    title = "This password is not accepted"
