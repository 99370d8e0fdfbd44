"""Keyset pages: the next page starts after the last row seen, so page 20,000 costs what page 1 costs."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field
from starlette.datastructures import URL

from service_kit.problems import Problem

T = TypeVar("T")
NextCursor = Annotated[
    str | None,
    Field(
        description="The cursor of the next page; null on the last one.",
        examples=["WyIyMDI2LTExLTMwVDE3OjA2OjA0LjcwMjQ3NFoiXQ"],
    ),
]


class CursorInvalid(Problem):
    status, code = HTTPStatus.BAD_REQUEST, "cursor_invalid"
    title = "The cursor is not from a page of this list"
    detail = "Send the `next` of the previous page unchanged, or leave the cursor out to start again."


class PageQuery(BaseModel, extra="forbid"):
    """Which page of a list, and how long."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(min_length=1, max_length=2048)] = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    next: str | None


def encode_cursor(*position: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, length: int) -> tuple[str, ...]:
    """The position of the last row seen: `length` strings, in the order of the list's columns."""
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        json.dumps(position, ensure_ascii=False).encode()  # half a surrogate pair: no database takes it
    except (ValueError, RecursionError) as error:
        raise CursorInvalid from error
    if not isinstance(position, list) or len(position) != length:
        raise CursorInvalid
    if not all(isinstance(part, str) for part in position):
        raise CursorInvalid
    return tuple(position)


def link_header(url: URL, page: Page[T]) -> dict[str, str]:
    """RFC 8288: the next page, relative to the address the client used."""
    if page.next is None:
        return {}
    following = url.include_query_params(cursor=page.next)
    return {"Link": f'<{following.path}?{following.query}>; rel="next"'}
