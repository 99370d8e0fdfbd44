"""The media types that a route takes and gives: a body of another is refused, and a client that wants none of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.http1.head import Head
from service_kit.problems import Problem

_RANGES_MAX: Final = 64  # of an Accept; those beyond are not read
_WEIGHT: Final = re.compile(r"(?:^|;)[ \t]*q=([^;]*)")


class MediaTypeUnsupported(Problem):
    status, code, title = (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The route does not take this media type",
    )
    detail = "`Accept` lists the media types that the route takes."


class NotAcceptable(Problem):
    status, code, title = (
        HTTPStatus.NOT_ACCEPTABLE,
        "not_acceptable",
        "The route gives none of the accepted media types",
    )
    detail = "Send `Accept: */*`, or leave it out."


@dataclass(frozen=True, slots=True)
class Media:
    """Lower-case media types; none of one kind means any. `consumes` may hold ranges: `image/*`."""

    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()

    def check(self, head: Head) -> None:
        if self.consumes and head.has_body and not self._takes(_values(head, b"content-type")):
            raise MediaTypeUnsupported(
                f"The route takes {' or '.join(self.consumes)}.", headers={"Accept": ", ".join(self.consumes)}
            )
        if self.produces:
            ranges = _ranges(_values(head, b"accept"))
            if ranges and not any(_quality(media_type, ranges) for media_type in self.produces):
                raise NotAcceptable(f"The route gives {' or '.join(self.produces)}.")

    def _takes(self, sent: list[str]) -> bool:
        media_type = sent[0].partition(";")[0].strip() if len(sent) == 1 else ""
        return media_type in self.consumes or f"{media_type.partition('/')[0]}/*" in self.consumes


def _values(head: Head, name: bytes) -> list[str]:
    """A field that crosses as it came; only routes that ask for media types look for it."""
    lines = (line.partition(b":") for line in head.headers)
    return [value.decode("latin-1").strip().lower() for field, _, value in lines if field.lower() == name]


def _ranges(values: Iterable[str]) -> dict[str, float]:
    """What Accept says of each range (RFC 9110, 12.5.1); empty where it says nothing that can be read."""
    found = {}
    for element in ",".join(values).split(",", _RANGES_MAX)[:_RANGES_MAX]:
        media_range, _, parameters = element.partition(";")
        if media_range := media_range.strip():
            weight = _WEIGHT.search(parameters)
            try:
                found[media_range] = float(weight[1]) if weight else 1.0
            except ValueError:
                found[media_range] = 1.0
    return found


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """The most exact range that holds the media type decides."""
    for one in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if one in ranges:
            return ranges[one]
    return 0.0
