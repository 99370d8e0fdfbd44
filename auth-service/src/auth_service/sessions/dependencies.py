"""Whose sessions a request is about, and the sessions themselves."""

from typing import Annotated

from fastapi import Depends, Query, Request

from auth_service import audit
from auth_service.dependencies import TheAuditContext
from auth_service.sessions.exceptions import NotAPerson
from auth_service.sessions.service import Sessions
from service_kit.dependencies import InsufficientRole, require
from service_kit.tokens import Caller


async def get_person(caller: Annotated[Caller, Depends(require(scopes=["sessions"]))]) -> Caller:
    """A client's own token is of no session: there is nothing to list, and ending "all" would leave it good."""
    if caller.credentials_version is None:
        raise NotAPerson
    return caller


Person = Annotated[Caller, Depends(get_person)]


async def get_sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


async def get_subject(
    caller: Person,
    context: TheAuditContext,
    user: Annotated[str | None, Query(min_length=1, description="Another person's id, for an admin")] = None,
) -> str:
    if user is None or user == caller.subject:
        return caller.subject
    with audit.refusals("sessions", actor=caller.subject, client=caller.client_id, context=context):
        if "admin" not in caller.roles:
            raise InsufficientRole("Another person's sessions are for an admin.")
    return user


TheSessions = Annotated[Sessions, Depends(get_sessions)]
Subject = Annotated[str, Depends(get_subject)]
