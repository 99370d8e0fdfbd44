"""Why a mailed link does nothing."""

from http import HTTPStatus

from service_kit.problems import Problem


class LinkUnknown(Problem):
    status, code = HTTPStatus.NOT_FOUND, "link_unknown"
    title = "This is not one of our links, or only a part of one"
    detail = "Copy all of it from the mail."


class LinkUsed(Problem):
    status, code = HTTPStatus.CONFLICT, "link_used"
    title = "This link was used already"
    detail = "The link works once. Ask for a new one to do it again."


class LinkExpired(Problem):
    """Too late, or overtaken: the sessions ended, or the address changed, since it was asked for."""

    status, code = HTTPStatus.GONE, "link_expired"
    title = "This link is no longer valid; ask for a new one"
    detail = "A link ends after a while, or once its subject has changed."
