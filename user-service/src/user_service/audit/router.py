"""What was done to a person, for administrators to read."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from service_kit.dependencies import InsufficientRole, require
from service_kit.document import refusals
from user_service.audit import repository
from user_service.audit.schemas import RecordOut, RecordPage
from user_service.database import Database
from user_service.pagination import CursorInvalid, PageQuery, link_header

router = APIRouter(prefix="/v1/users", tags=["users"])


async def get_database(request: Request) -> Database:
    database: Database = request.app.state.parts.database
    return database


@router.get(
    "/{id}/audit",
    dependencies=[Depends(require(scopes=["users:admin"], roles=["admin"]))],
    responses=refusals(InsufficientRole, CursorInvalid),
)
async def read_audit(
    id: UUID,
    query: Annotated[PageQuery, Query()],
    database: Annotated[Database, Depends(get_database)],
    request: Request,
    response: Response,
) -> RecordPage:
    """Who did what to this person, when and from where; newest first."""
    page = await database.read(repository.page, id, query.limit, query.cursor)
    response.headers.update({"Cache-Control": "no-store", **link_header(request.url, page)})
    return RecordPage(items=[RecordOut.of(record) for record in page.items], next=page.next)
