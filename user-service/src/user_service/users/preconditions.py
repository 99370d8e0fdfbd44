"""ETag, If-Match and If-None-Match (RFC 9110, section 13) for whatever has a version."""

from http import HTTPStatus

from service_kit.problems import Problem


class PreconditionRequired(Problem):
    status, code = HTTPStatus.PRECONDITION_REQUIRED, "if_match_required"
    title = "Send If-Match with the ETag of what you read"


class PreconditionFailed(Problem):
    status, code = HTTPStatus.PRECONDITION_FAILED, "changed_meanwhile"
    title = "This was changed since you read it: read it again"


def etag(version: int | str) -> str:
    return f'"{version}"'


def require_match(if_match: str | None, version: int) -> None:
    """Let the change through only if it was made from this version."""
    if if_match is None or not if_match.strip():
        raise PreconditionRequired
    # A weak tag never matches here: If-Match compares strongly.
    if if_match.strip() != "*" and etag(version) not in _listed(if_match):
        raise PreconditionFailed


def is_known(if_none_match: str | None, version: int | str) -> bool:
    """Whether the client already holds this version, so that 304 is enough."""
    if if_none_match is None:
        return False
    listed = {tag.removeprefix("W/") for tag in _listed(if_none_match)}
    return if_none_match.strip() == "*" or etag(version) in listed


def _listed(header: str) -> set[str]:
    return {tag.strip() for tag in header.split(",")}
