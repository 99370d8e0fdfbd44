"""What the routes are given."""

from typing import Annotated

from fastapi import Depends

from example_service.items.models import BUILT_IN
from example_service.items.service import Service


async def get_service() -> Service:
    return Service(BUILT_IN)


Given = Annotated[Service, Depends(get_service)]
