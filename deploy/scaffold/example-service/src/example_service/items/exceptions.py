"""Refusals, by class."""

from http import HTTPStatus

from service_kit.problems import Problem


class NotFound(Problem):
    status, code = HTTPStatus.NOT_FOUND, "items_not_found"
    title = "There is no such entry"
