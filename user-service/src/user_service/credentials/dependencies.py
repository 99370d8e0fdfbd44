"""What the routes about credentials need."""

from typing import Annotated

from fastapi import Depends, Request

from user_service.credentials.service import CredentialService


async def get_credentials(request: Request) -> CredentialService:
    credentials: CredentialService = request.app.state.parts.credentials
    return credentials


CredentialChecks = Annotated[CredentialService, Depends(get_credentials)]
