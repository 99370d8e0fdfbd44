"""What the routes about avatars need."""

from typing import Annotated

from fastapi import Depends, Request

from user_service.avatars.service import AvatarService


async def get_avatars(request: Request) -> AvatarService:
    avatars: AvatarService = request.app.state.parts.avatars
    return avatars


Avatars = Annotated[AvatarService, Depends(get_avatars)]
