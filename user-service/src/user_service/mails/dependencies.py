"""What the routes about mails need."""

from typing import Annotated

from fastapi import Depends, Request

from user_service.mails.service import MailService


async def get_mails(request: Request) -> MailService:
    mails: MailService = request.app.state.parts.mails
    return mails


Mails = Annotated[MailService, Depends(get_mails)]
