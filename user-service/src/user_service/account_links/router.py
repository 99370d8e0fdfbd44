"""Asking for mails, and the links in them. GET and HEAD change nothing: a scanner's visit uses no link up."""

from typing import Literal

from fastapi import APIRouter, Depends, Request, Response, status
from fastapi.responses import HTMLResponse

from service_kit.dependencies import get_service_caller
from service_kit.document import refusals
from user_service.account_links.dependencies import AccountLinks, KnownDevice, Pages
from user_service.account_links.exceptions import LinkExpired, LinkUnknown, LinkUsed
from user_service.account_links.schemas import (
    Accepted,
    AddressWanted,
    FollowedLink,
    FollowedQuestion,
    ForAddress,
    LinkStatus,
    NewPassword,
    Registration,
)
from user_service.bodies import SmallJsonRoute
from user_service.credentials.exceptions import WrongPassword
from user_service.mail.models import LinkKind
from user_service.passwords.exceptions import HashingBusy, PasswordRefused
from user_service.users.allowance import TooManyChanges
from user_service.users.dependencies import Anonymous, By, MyId, owns_account, revoked
from user_service.users.exceptions import EmailTaken, NotAPerson, UserNotFound

router = APIRouter(prefix="/v1/users", tags=["mails"], route_class=SmallJsonRoute)
confirmed_registration = APIRouter(prefix="/v1/users", tags=["users"], route_class=SmallJsonRoute)
internal_router = APIRouter(prefix="/internal/v1", route_class=SmallJsonRoute)

WithoutPassword = Literal[LinkKind.VERIFY, LinkKind.CHANGE, LinkKind.UNDO]


@router.post("/verification", status_code=status.HTTP_202_ACCEPTED)
async def ask_verification(request_body: ForAddress, account_links: AccountLinks) -> Accepted:
    """Have the confirmation of an address mailed again. The answer is the same for every address."""
    await account_links.ask_verification(request_body.email)
    return Accepted()


@router.post("/password-reset", status_code=status.HTTP_202_ACCEPTED)
async def ask_reset(request_body: ForAddress, account_links: AccountLinks) -> Accepted:
    """Have a link mailed that sets a new password. The answer is the same for every address."""
    await account_links.ask_reset(request_body.email)
    return Accepted()


@router.post(
    "/me/email",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[owns_account],
    responses=refusals(NotAPerson, UserNotFound, WrongPassword, HashingBusy, TooManyChanges),
)
async def ask_change(me: MyId, wanted: AddressWanted, account_links: AccountLinks, context: By) -> Accepted:
    """Move the account to another address: once it is confirmed there, and with 7 days to undo it."""
    await account_links.ask_change(me, wanted.email, wanted.password, context)
    return Accepted()


@router.get("/links/reset-password", response_class=HTMLResponse, include_in_schema=False)
async def show_reset(pages: Pages) -> Response:
    """The page that a mailed link leads to, for people: it asks for the new password, and posts it."""
    return pages.of(LinkKind.RESET)


@router.get("/links/confirm-registration", response_class=HTMLResponse, include_in_schema=False)
async def show_registration(pages: Pages) -> Response:
    """The page that a mailed link leads to, for people: it asks for the account's password, and posts it."""
    return pages.of(LinkKind.REGISTER)


@router.get("/links/{kind}", response_class=HTMLResponse, include_in_schema=False)
async def show_link(kind: WithoutPassword, pages: Pages) -> Response:
    """The page that a mailed link leads to, for people: it posts the link's secret once they press its button."""
    return pages.of(kind)


@router.post(
    "/links/reset-password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=refusals(LinkUnknown, LinkUsed, LinkExpired, PasswordRefused, HashingBusy),
)
async def reset_password(
    followed: NewPassword,
    account_links: AccountLinks,
    context: Anonymous,
    request: Request,
    response: Response,
    make_known: KnownDevice,
) -> None:
    """Set a new password. The address counts as verified, and every session ends."""
    user = await account_links.reset(followed.token, followed.password, context)
    make_known(followed.token)
    response.headers.update(revoked(request, user))


@router.post(
    "/links/confirm-registration",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=refusals(LinkUnknown, LinkUsed, LinkExpired, PasswordRefused, HashingBusy, EmailTaken),
)
async def confirm_registration(
    followed: NewPassword, account_links: AccountLinks, context: Anonymous, make_known: KnownDevice
) -> None:
    """Make the account that was asked for, with this password."""
    await account_links.register(followed.token, followed.password, context)
    make_known(followed.token)


@router.post(
    "/links/{kind}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=refusals(LinkUnknown, LinkUsed, LinkExpired, EmailTaken),
)
async def follow_link(
    kind: WithoutPassword,
    followed: FollowedLink,
    account_links: AccountLinks,
    context: Anonymous,
    request: Request,
    response: Response,
    make_known: KnownDevice,
) -> None:
    """Do what the mailed link is for: once, then `link_used`; too late, `link_expired`."""
    user = await account_links.follow(kind, followed.token, context)
    make_known(followed.token)
    response.headers.update(revoked(request, user))


@internal_router.post("/links/followed", dependencies=[Depends(get_service_caller("credentials:verify"))])
async def followed_link(request_body: FollowedQuestion, account_links: AccountLinks) -> LinkStatus:
    """Whether a link in a mail to this address was followed within the hour: any, or the one of this token."""
    return LinkStatus(link=await account_links.followed(request_body.email, request_body.token))


@confirmed_registration.post("", status_code=status.HTTP_202_ACCEPTED)
async def ask_registration(wanted: Registration, account_links: AccountLinks) -> Accepted:
    """Register by mail. The answer is the same whether or not the address has an account."""
    await account_links.ask_registration(wanted.email, wanted.name)
    return Accepted()
