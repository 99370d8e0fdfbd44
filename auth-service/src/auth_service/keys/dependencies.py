"""The key ring for a route."""

from typing import Annotated, cast

from fastapi import Depends, Request

from auth_service.keys.service import KeyRing


async def get_keys(request: Request) -> KeyRing:
    return cast("KeyRing", request.app.state.keys)


Keys = Annotated[KeyRing, Depends(get_keys)]
