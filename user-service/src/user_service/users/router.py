"""The public routes about people."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status

from service_kit.dependencies import InsufficientAuthentication, InsufficientRole
from service_kit.document import refusals
from service_kit.preconditions import PreconditionFailed, PreconditionRequired, WeakETag, etag, is_known
from service_kit.tokens import Caller
from user_service.bodies import SmallJsonRoute
from user_service.pagination import CursorInvalid, link_header
from user_service.passwords.exceptions import HashingBusy, PasswordRefused
from user_service.users.allowance import TooManyChanges
from user_service.users.dependencies import (
    Anonymous,
    By,
    MyId,
    ReadableId,
    Users,
    administers,
    erases,
    lists,
    person_id,
    reads,
    revoked,
    sets_roles,
    writes,
)
from user_service.users.exceptions import (
    EmailTaken,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    LastAdministrator,
    NotAllowed,
    NotAPerson,
    NotDeleted,
    OwnAccount,
    RequestInProgress,
    UserNotFound,
)
from user_service.users.idempotency import KeyedRequest, keyed_request
from user_service.users.models import User, tag_of
from user_service.users.repository import Filters
from user_service.users.schemas import ListQuery, NewUser, Roles, UserChanges, UserOut, UserPage
from user_service.users.service import UserService

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=SmallJsonRoute)

IfMatch = Annotated[str | None, Header(description="The ETag that the change was made from.")]
IfNoneMatch = Annotated[str | None, Header()]


async def get_keyed_request(
    request: Request, idempotency_key: Annotated[str | None, Header()] = None
) -> KeyedRequest | None:
    """The request by its Idempotency-Key. Registration is anonymous: the body's HMAC tells people apart."""
    if idempotency_key is None:
        return None
    server_key: bytes = request.app.state.parts.idempotency_key
    return keyed_request(server_key, "anonymous", "users.register", idempotency_key, await request.body())


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=refusals(
        EmailTaken,
        IdempotencyKeyInvalid,
        IdempotencyKeyReused,
        RequestInProgress,
        PasswordRefused,
        HashingBusy,
    ),
)
async def register(
    new: NewUser,
    users: Users,
    context: Anonymous,
    request: Annotated[KeyedRequest | None, Depends(get_keyed_request)],
    response: Response,
) -> UserOut:
    """Register a person. A repeat with the same Idempotency-Key and body gets the first answer again."""
    registered = await users.register(new, context, request)
    response.headers["Location"] = f"/v1/users/{registered.user.id}"
    response.headers["ETag"] = etag(tag_of(registered.user.id, registered.user.version))
    if registered.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return registered.user


@router.get("", dependencies=[lists], responses=refusals(InsufficientRole, CursorInvalid))
async def list_users(
    query: Annotated[ListQuery, Query()], users: Users, request: Request, response: Response
) -> UserPage:
    """People, a page at a time, in a stable order."""
    filters = Filters(
        query.status,
        query.role,
        query.created_from,
        query.created_before,
        query.email,
        query.name,
        query.external_id,
    )
    page = await users.page(filters, query.limit, query.cursor)
    response.headers.update({"Cache-Control": "no-store", **link_header(request.url, page)})
    return UserPage(items=[UserOut.of(user) for user in page.items], next=page.next)


@router.get("/me", response_model=UserOut, responses=refusals(NotAPerson, UserNotFound))
async def read_me(
    request: Request, caller: Annotated[Caller, reads], if_none_match: IfNoneMatch = None
) -> Response:
    """The person whose token this is."""
    # Of all routes this one is asked for most, and each dependency is a tenth of what it costs beside the database.
    users: UserService = request.app.state.parts.users
    return _shown(await users.find(person_id(caller)), if_none_match)


@router.patch(
    "/me",
    response_model=UserOut,
    dependencies=[writes],
    responses=refusals(
        NotAPerson, UserNotFound, PreconditionRequired, PreconditionFailed, WeakETag, TooManyChanges
    ),
)
async def change_me(
    me: MyId, changes: UserChanges, users: Users, context: By, if_match: IfMatch = None
) -> Response:
    """Change what is given; needs If-Match."""
    return _shown(await users.update(me, changes, if_match, context))


@router.get(
    "/{id}",
    response_model=UserOut,
    dependencies=[reads],
    responses=refusals(NotAPerson, NotAllowed, UserNotFound),
)
async def read_user(id: ReadableId, users: Users, if_none_match: IfNoneMatch = None) -> Response:
    """One person: oneself, or anyone for administrators."""
    return _shown(await users.find(id), if_none_match)


@router.patch(
    "/{id}",
    response_model=UserOut,
    dependencies=[writes],
    responses=refusals(
        NotAPerson,
        NotAllowed,
        UserNotFound,
        PreconditionRequired,
        PreconditionFailed,
        WeakETag,
        TooManyChanges,
    ),
)
async def change_user(
    id: ReadableId,
    changes: UserChanges,
    users: Users,
    context: By,
    if_match: IfMatch = None,
) -> Response:
    """Change what is given: oneself, or anyone for administrators; needs If-Match."""
    return _shown(await users.update(id, changes, if_match, context))


@router.put(
    "/{id}/roles",
    response_model=UserOut,
    dependencies=[sets_roles],
    responses=refusals(
        InsufficientRole,
        InsufficientAuthentication,
        UserNotFound,
        OwnAccount,
        LastAdministrator,
        PreconditionRequired,
        PreconditionFailed,
        WeakETag,
    ),
)
async def set_roles(
    id: UUID,
    body: Roles,
    request: Request,
    users: Users,
    context: By,
    if_match: IfMatch = None,
) -> Response:
    """Set what the person may do; needs If-Match, and a sign-in that is at most five minutes old.

    Tokens with the old roles stop working at once.
    """
    user = await users.set_roles(id, body.roles, if_match, context)
    return _shown(user, also=revoked(request, user))


@router.post(
    "/{id}/disable",
    response_model=UserOut,
    dependencies=[administers],
    responses=refusals(InsufficientRole, UserNotFound, OwnAccount, LastAdministrator),
)
async def disable(id: UUID, request: Request, users: Users, context: By) -> Response:
    """Keep the person out; every session ends."""
    user = await users.disable(id, context)
    return _shown(user, also=revoked(request, user))


@router.post(
    "/{id}/enable",
    response_model=UserOut,
    dependencies=[administers],
    responses=refusals(InsufficientRole, UserNotFound),
)
async def enable(id: UUID, users: Users, context: By) -> Response:
    """Let a disabled person in again."""
    return _shown(await users.enable(id, context))


@router.delete(
    "/{id}",
    response_model=UserOut,
    dependencies=[administers],
    responses=refusals(InsufficientRole, UserNotFound, OwnAccount, LastAdministrator),
)
async def delete(id: UUID, request: Request, users: Users, context: By) -> Response:
    """Delete the person so that they can still be restored; every session ends, the address stays taken."""
    user = await users.delete(id, context)
    return _shown(user, also=revoked(request, user))


@router.post(
    "/{id}/restore",
    response_model=UserOut,
    dependencies=[administers],
    responses=refusals(InsufficientRole, UserNotFound, NotDeleted),
)
async def restore(id: UUID, users: Users, context: By) -> Response:
    """Bring a deleted person back."""
    return _shown(await users.restore(id, context))


@router.post(
    "/{id}/erase",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[erases],
    responses=refusals(InsufficientRole, UserNotFound, NotDeleted),
)
async def erase(id: UUID, users: Users, context: By) -> None:
    """Remove a deleted person for good. The audit keeps what happened, not to whom."""
    await users.erase(id, context)


def _shown(user: User, if_none_match: str | None = None, also: Mapping[str, str] | None = None) -> Response:
    tag = tag_of(user.id, user.version)
    headers = {"ETag": etag(tag), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    headers |= also or {}
    if is_known(if_none_match, tag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(UserOut.of(user).model_dump_json(), media_type="application/json", headers=headers)
