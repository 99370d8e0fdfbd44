"""The public routes about avatars."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response, status

from service_kit.document import refusals
from service_kit.preconditions import etag, is_known
from user_service.avatars.dependencies import Avatars
from user_service.avatars.exceptions import (
    AvatarNotFound,
    AvatarsBusy,
    AvatarsUnavailable,
    AvatarTooLarge,
    AvatarTooManyPixels,
    AvatarUnsupported,
    UploadsAtOnce,
    UploadStalled,
)
from user_service.avatars.images import MEDIA_TYPE
from user_service.avatars.ranges import RangeNotSatisfiable, byte_range
from user_service.avatars.service import AvatarService
from user_service.users.allowance import TooManyChanges
from user_service.users.dependencies import By, MyId, ReadableId, reads, writes
from user_service.users.exceptions import NotAllowed, NotAPerson, UserNotFound

router = APIRouter(prefix="/v1/users", tags=["avatars"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a picture a client wants, and which one it holds."""

    if_none_match: Annotated[str | None, Header()] = None
    range: Annotated[str | None, Header()] = None
    if_range: Annotated[str | None, Header()] = None


PICTURES = {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    },
}


@router.put(
    "/me/avatar",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[writes],
    openapi_extra={"requestBody": {"required": True, "content": PICTURES}},
    responses=refusals(
        NotAPerson,
        UserNotFound,
        UploadStalled,
        AvatarTooLarge,
        AvatarUnsupported,
        AvatarTooManyPixels,
        UploadsAtOnce,
        TooManyChanges,
        AvatarsBusy,
        AvatarsUnavailable,
    ),
)
async def put_avatar(
    me: MyId,
    request: Request,
    avatars: Avatars,
    context: By,
    response: Response,
    content_type: Annotated[str, Header(include_in_schema=False)] = "",
) -> None:
    """Set the picture: the body itself, or the first file of a form. JPEG, PNG, WebP or GIF, by content."""
    response.headers["ETag"] = etag(await avatars.put(me, request.stream(), content_type, context))


@router.delete(
    "/me/avatar",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[writes],
    responses=refusals(NotAPerson, UserNotFound, TooManyChanges, AvatarsUnavailable),
)
async def delete_avatar(me: MyId, avatars: Avatars, context: By) -> None:
    """Have no picture; also when there was none."""
    await avatars.remove(me, context)


PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range asked for"},
    304: {"description": "The client holds it already"},
}


@router.get(
    "/me/avatar",
    response_class=Response,
    responses=PICTURE
    | refusals(NotAPerson, AvatarNotFound, UserNotFound, RangeNotSatisfiable, AvatarsUnavailable),
    dependencies=[reads],
)
async def read_my_avatar(me: MyId, avatars: Avatars, wanted: Annotated[Wanted, Depends()]) -> Response:
    """One's own picture."""
    return await _picture(me, avatars, wanted)


@router.get(
    "/{id}/avatar",
    response_class=Response,
    responses=PICTURE
    | refusals(NotAPerson, NotAllowed, AvatarNotFound, UserNotFound, RangeNotSatisfiable, AvatarsUnavailable),
    dependencies=[reads],
)
async def read_avatar(id: ReadableId, avatars: Avatars, wanted: Annotated[Wanted, Depends()]) -> Response:
    """The picture, for whoever may read the person."""
    return await _picture(id, avatars, wanted)


async def _picture(person: UUID, avatars: AvatarService, wanted: Wanted) -> Response:
    known = await avatars.etag(person) if wanted.if_none_match else None
    if known and is_known(wanted.if_none_match, known):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=_headers(known))
    avatar = await avatars.get(person)
    headers = _headers(avatar.etag)
    part = byte_range(wanted.range, wanted.if_range, headers["ETag"], len(avatar.content))
    if part is None:
        return Response(avatar.content, media_type=MEDIA_TYPE, headers=headers)
    headers["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{len(avatar.content)}"
    return Response(
        avatar.content[slice(*part)], status.HTTP_206_PARTIAL_CONTENT, headers, media_type=MEDIA_TYPE
    )


def _headers(version: str) -> dict[str, str]:
    return {
        "ETag": etag(version),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "inline",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
