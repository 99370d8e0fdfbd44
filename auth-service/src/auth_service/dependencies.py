"""Where a request came from, for every route that keeps or tells it."""

from typing import Annotated

from fastapi import Depends, Request

from auth_service.audit import AuditContext
from service_kit.addresses import client_address


# A coroutine, since FastAPI runs any other function in a thread: that costs more than the sign-in's own work.
async def get_audit_context(request: Request) -> AuditContext:
    agent = request.headers.get("user-agent", "")
    return AuditContext(
        await client_address(request), "".join(char for char in agent if char.isprintable())[:200]
    )


TheAuditContext = Annotated[AuditContext, Depends(get_audit_context)]
