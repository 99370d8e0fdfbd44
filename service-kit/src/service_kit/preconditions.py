"""ETag, If-Match and If-None-Match (RFC 9110, section 13) for whatever has a version."""

import re
from http import HTTPStatus
from typing import Final, NamedTuple

from service_kit.problems import Problem

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# What compressing proxies put behind a strong ETag: Apache and Caddy -gzip, Jetty --gzip, others ;gzip.
_CODING: Final = re.compile(r"(?:--?|;)(?:gzip|br|zstd|deflate)\Z")


class PreconditionRequired(Problem):
    """Nothing is changed blindly."""

    status, code = HTTPStatus.PRECONDITION_REQUIRED, "if_match_required"
    title = "The change needs If-Match"
    detail = "Read the resource, and send the `ETag` of the response as `If-Match`."


class PreconditionFailed(Problem):
    """Somebody else was faster."""

    status, code = HTTPStatus.PRECONDITION_FAILED, "changed_meanwhile"
    title = "The resource has changed since you read it"
    detail = "Read it again, change that version, and send its `ETag`."


class WeakETag(Problem):
    """Nobody was faster: the version is the right one, and its ETag not the one that was given with it."""

    status, code = HTTPStatus.PRECONDITION_FAILED, "weak_etag"
    title = "The ETag in If-Match was made weak or altered on its way"
    detail = "Send the `ETag` as the service sent it: in quotes, without `W/` in front."


class Tag(NamedTuple):
    """An entity tag; `opaque` is what stands between the quotes."""

    opaque: str
    weak: bool


def etag(version: int | str) -> str:
    """The strong entity tag of a version, which has to be one of its own for everything that the URL ever shows: at one
    like /me the person belongs into it (RFC 9110, section 8.8.3)."""
    return f'"{version}"'


def require_match(if_match: str | None, version: int | str) -> None:
    """Let the change through only if it was made from this version."""
    if if_match is None or not if_match.strip():
        raise PreconditionRequired
    tags = tags_in(if_match)
    # If-Match compares strongly (section 13.1.1): a weak tag never matches.
    if if_match.strip() == "*" or Tag(str(version), weak=False) in tags:
        return
    if any(_CODING.sub("", tag.opaque) == str(version) for tag in tags):
        raise WeakETag(f"A compressing proxy has changed the `ETag`. Send {etag(version)}.")
    raise PreconditionFailed


def is_known(if_none_match: str | None, version: int | str) -> bool:
    """Whether the client already holds this version, so that 304 is enough; compared weakly (section 13.1.2)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or str(version) in {tag.opaque for tag in tags_in(if_none_match)}


def tags_in(header: str) -> set[Tag]:
    """The entity tags of a list, each of which may hold a comma."""
    return {Tag(opaque, bool(weak)) for weak, opaque in _TAG.findall(header)}
