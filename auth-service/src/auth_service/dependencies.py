"""Where a request came from, for every route that keeps or tells it."""

from typing import Annotated

from fastapi import Depends, Request

from auth_service.audit import Origin
from service_kit.addresses import client_address


# A coroutine, since FastAPI runs any other function in a thread: that costs more than the sign-in's own work.
async def get_origin(request: Request) -> Origin:
    agent = request.headers.get("user-agent", "")
    return Origin(await client_address(request), "".join(char for char in agent if char.isprintable())[:200])


TheOrigin = Annotated[Origin, Depends(get_origin)]
