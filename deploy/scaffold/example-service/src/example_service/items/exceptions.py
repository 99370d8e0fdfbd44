"""Refusals, by class."""

from http import HTTPStatus
from typing import ClassVar

from service_kit.problems import Problem


class NotFound(Problem):
    status: ClassVar[int] = HTTPStatus.NOT_FOUND
    code = "items_not_found"
    title = "There is no such entry"
