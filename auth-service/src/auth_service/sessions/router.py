"""A person's sessions: see them, end one, all others, or all; an admin does so for somebody else."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from auth_service import audit
from auth_service.dependencies import TheAuditContext
from auth_service.sessions.dependencies import Person, Subject, TheSessions
from auth_service.sessions.exceptions import NotAPerson, SessionUnknown
from auth_service.sessions.schemas import SessionList, SessionView
from auth_service.store import StoreUnavailable
from service_kit.dependencies import InsufficientRole
from service_kit.document import refusals
from service_kit.response_revocations import headers

router = APIRouter(prefix="/auth/sessions", tags=["sessions"])


@router.get(
    "",
    summary="The live sessions, newest first",
    responses=refusals(NotAPerson, InsufficientRole, StoreUnavailable),
)
async def list_sessions(
    caller: Person, subject: Subject, sessions: TheSessions, response: Response
) -> SessionList:
    response.headers["cache-control"] = "no-store"
    found = await sessions.of(subject)
    return SessionList(items=[SessionView.of(session, caller.session_id) for session in found])


@router.delete(
    "",
    summary="End all sessions, or all others",
    status_code=204,
    responses=refusals(NotAPerson, InsufficientRole, StoreUnavailable),
)
async def end_sessions(
    caller: Person,
    subject: Subject,
    sessions: TheSessions,
    context: TheAuditContext,
    keep: Annotated[Literal["current"] | None, Query(description="Spare the session that asks")] = None,
) -> Response:
    ended = await sessions.end(subject, keep=caller.session_id if keep else None)
    audit.record(
        "sessions",
        "ended",
        "others" if keep else "all",
        actor=caller.subject,
        subject=subject,
        client=caller.client_id,
        context=context,
    )
    # Its own first: beyond the header's bound some are left to the stream.
    ended.sort(key=lambda one: one.value != caller.session_id)
    return Response(status_code=204, headers=headers(ended))


@router.delete(
    "/{session_id}",
    summary="End one session",
    status_code=204,
    responses=refusals(NotAPerson, InsufficientRole, SessionUnknown, StoreUnavailable),
)
async def end_session(
    session_id: str, caller: Person, subject: Subject, sessions: TheSessions, context: TheAuditContext
) -> Response:
    session = await sessions.get(session_id)
    with audit.refusals("sessions", actor=caller.subject, client=caller.client_id, context=context):
        # Somebody else's session is as unknown as one that never was.
        if session is None or session.subject != subject:
            raise SessionUnknown
    ended = await sessions.end(subject, session_id)
    audit.record(
        "sessions",
        "ended",
        "one",
        actor=caller.subject,
        subject=subject,
        client=caller.client_id,
        session=session_id,
        context=context,
    )
    return Response(status_code=204, headers=headers(ended or [sessions.revocation_of(session_id)]))
