"""One range of a small answer (RFC 9110, section 14)."""

import re
from http import HTTPStatus
from typing import Final

from service_kit.problems import Problem

ONE_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


class RangeNotSatisfiable(Problem):
    status, code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range_not_satisfiable"
    title = "The picture has no bytes in this range"
    detail = "`Content-Range` gives the length of the picture."


def byte_range(header: str | None, if_range: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last; None for all of it.

    What is no single byte range is ignored, as the RFC allows; so is a range of another version.
    """
    found = ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", "") or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if first:
        begin, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < begin:
            return None
    else:
        begin, end = max(0, size - int(last)), size
    if begin >= end:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return begin, end
