"""The public routes; `routes/items.toml` tells the gateway of them."""

from fastapi import APIRouter, Depends

from example_service.items.dependencies import Given
from example_service.items.schemas import EntryOut
from service_kit.dependencies import get_current_user

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(get_current_user)])


@router.get("")
async def entries(service: Given) -> list[EntryOut]:
    """Every entry."""
    return [EntryOut.of(entry) for entry in service.list()]


@router.get("/{key}")
async def entry(key: str, service: Given) -> EntryOut:
    """One entry."""
    return EntryOut.of(service.find(key))
