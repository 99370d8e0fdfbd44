"""What the routes about mails need."""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Response

from user_service.mails.models import FOLLOWED_FOR
from user_service.mails.pages import LinkPages
from user_service.mails.service import MailService

# The names of auth-service's sign-in (its contract/devices.md).
DEVICE_COOKIE: Final = "device"
DEVICE_HEADER: Final = "X-Device-Token"
SIGN_IN: Final = "/auth/token"


async def get_mails(request: Request) -> MailService:
    mails: MailService = request.app.state.parts.mails
    return mails


async def get_pages(request: Request) -> LinkPages:
    pages: LinkPages = request.app.state.parts.link_pages
    return pages


async def make_known(request: Request, response: Response) -> Callable[[str], None]:
    """Called with a followed link's token: at its next sign-in this device is known as the person's."""

    def name(token: str) -> None:
        value = f"link.{token}"
        response.headers[DEVICE_HEADER] = value
        response.set_cookie(
            DEVICE_COOKIE,
            value,
            int(FOLLOWED_FOR.total_seconds()),
            path=SIGN_IN,
            secure=request.app.state.parts.https,
            httponly=True,
            samesite="strict",
        )

    return name


Pages = Annotated[LinkPages, Depends(get_pages)]
Mails = Annotated[MailService, Depends(get_mails)]
KnownDevice = Annotated[Callable[[str], None], Depends(make_known)]
