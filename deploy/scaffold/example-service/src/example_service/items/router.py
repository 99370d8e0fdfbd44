"""The public routes; `routes/items.toml` tells the gateway of them."""

from fastapi import APIRouter, Security

from example_service.items.dependencies import Given
from example_service.items.schemas import EntryOut
from service_kit.bodies import JsonRoute
from service_kit.dependencies import get_current_user

# A client needs this scope, too; a token that was narrowed for another service does nothing here.
reads = Security(get_current_user, scopes=["items:read"])
router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[reads], route_class=JsonRoute)


@router.get("")
async def entries(service: Given) -> list[EntryOut]:
    """Every entry."""
    return [EntryOut.of(entry) for entry in service.list()]


@router.get("/{key}")
async def entry(key: str, service: Given) -> EntryOut:
    """One entry."""
    return EntryOut.of(service.find(key))
