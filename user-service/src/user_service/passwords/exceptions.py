"""Why a password is not accepted, or not looked at."""

from http import HTTPStatus

from service_kit.problems import Problem


class PasswordRefused(Problem):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "password_refused"
    title = "This password is not accepted"
    detail = "Choose a longer password, of words that are hard to guess."


class HashingBusy(Problem):
    """The queue is full: refused at once, so that health and other calls never wait behind hashing."""

    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "hashing_busy"
    title = "Too many passwords are being checked right now"
    detail = "Wait as long as `Retry-After` says."
