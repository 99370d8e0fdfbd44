"""Who asks, about whom, and from where."""

import math
import time
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security

from service_kit.addresses import client_address
from service_kit.dependencies import get_current_user, require
from service_kit.response_revocations import headers
from service_kit.revocations import Revocation
from service_kit.tokens import Caller
from service_kit.tracing import request_id
from user_service.audit.models import AuditContext
from user_service.users.exceptions import NotAllowed, NotAPerson
from user_service.users.models import ADMIN, User
from user_service.users.service import UserService

Me = Annotated[Caller, Depends(get_current_user)]


async def get_users(request: Request) -> UserService:
    users: UserService = request.app.state.parts.users
    return users


def person_id(caller: Caller) -> UUID:
    """The id of the person whose token this is; a client's own token is refused."""
    try:
        return UUID(caller.subject)
    except ValueError as error:
        raise NotAPerson from error


def revoked(request: Request, user: User) -> dict[str, str]:
    """The header of every response to a change that raises the person's version: from it on, the gateway that passes
    the response on refuses older tokens. It holds for a person as committed, whether or not this request changed them.
    """
    until = math.ceil(time.time() + request.app.state.parts.token_life)
    return headers([Revocation("subject", str(user.id), until, user.credentials_version)])


async def audit_context_of(request: Request, caller: Caller | None) -> AuditContext:
    return AuditContext(
        caller.subject if caller else "anonymous", await client_address(request), request_id()
    )


async def get_my_id(caller: Me) -> UUID:
    return person_id(caller)


async def get_own_or_any_as_admin(id: UUID, caller: Me) -> UUID:
    """The id in the path, if it is the caller's own or the caller is an administrator.

    The refusal is the same whether or not such a person exists.
    """
    if ADMIN not in caller.roles and caller.subject != str(id):
        raise NotAllowed
    return id


async def get_audit_context(request: Request, caller: Me) -> AuditContext:
    return await audit_context_of(request, caller)


async def get_anonymous_audit_context(request: Request) -> AuditContext:
    return await audit_context_of(request, None)


# What a client may do here. Only the first-party client's `*` holds `account`: no client's record can name it.
reads = Security(get_current_user, scopes=["users:read"])
writes = Security(get_current_user, scopes=["users:write"])
owns_account = Security(get_current_user, scopes=["account"])
lists = Depends(require(scopes=["users:read"], roles=[ADMIN]))
administers = Depends(require(scopes=["users:admin"], roles=[ADMIN]))
# Administrators are made by whoever signed in within five minutes, not by a session that was left open.
sets_roles = Depends(require(scopes=["users:admin"], roles=[ADMIN], max_age=300))
# Erasing is for good, so no client but the people's own front end asks for it.
erases = Depends(require(scopes=["account"], roles=[ADMIN]))

Users = Annotated[UserService, Depends(get_users)]
MyId = Annotated[UUID, Depends(get_my_id)]
ReadableId = Annotated[UUID, Depends(get_own_or_any_as_admin)]
By = Annotated[AuditContext, Depends(get_audit_context)]
Anonymous = Annotated[AuditContext, Depends(get_anonymous_audit_context)]
