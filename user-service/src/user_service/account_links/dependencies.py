"""What the routes about mailed links need."""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Response

from user_service.account_links.pages import LinkPages
from user_service.account_links.service import FOLLOWED_FOR, AccountLinkService

# The names of auth-service's sign-in (its contract/devices.md).
DEVICE_COOKIE: Final = "device"
DEVICE_HEADER: Final = "X-Device-Token"
SIGN_IN: Final = "/auth/token"


async def get_account_links(request: Request) -> AccountLinkService:
    account_links: AccountLinkService = request.app.state.parts.account_links
    return account_links


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
AccountLinks = Annotated[AccountLinkService, Depends(get_account_links)]
KnownDevice = Annotated[Callable[[str], None], Depends(make_known)]
