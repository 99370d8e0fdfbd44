"""Asking for mails, and the links in them. GET and HEAD change nothing: a scanner's visit uses no link up."""

from typing import Literal

from fastapi import APIRouter, Response, status
from fastapi.responses import HTMLResponse

from service_kit.bodies import JsonRoute
from user_service.mails.dependencies import Mails
from user_service.mails.models import LinkKind
from user_service.mails.pages import page
from user_service.mails.schemas import (
    Accepted,
    AddressWanted,
    FollowedLink,
    ForAddress,
    NewPassword,
    Registration,
)
from user_service.users.dependencies import Anonymous, By, MyId, owns_account

router = APIRouter(prefix="/v1/users", tags=["mails"], route_class=JsonRoute)
confirmed_registration = APIRouter(prefix="/v1/users", tags=["users"], route_class=JsonRoute)

WithoutPassword = Literal[LinkKind.VERIFY, LinkKind.CHANGE, LinkKind.UNDO]


@router.post("/verification", status_code=status.HTTP_202_ACCEPTED)
async def ask_verification(asked: ForAddress, mails: Mails) -> Accepted:
    """Have the confirmation of an address mailed again. The answer is the same for every address."""
    await mails.ask_verification(asked.email)
    return Accepted()


@router.post("/password-reset", status_code=status.HTTP_202_ACCEPTED)
async def ask_reset(asked: ForAddress, mails: Mails) -> Accepted:
    """Have a link mailed that sets a new password. The answer is the same for every address."""
    await mails.ask_reset(asked.email)
    return Accepted()


@router.post("/me/email", status_code=status.HTTP_202_ACCEPTED, dependencies=[owns_account])
async def ask_change(me: MyId, wanted: AddressWanted, mails: Mails, origin: By) -> Accepted:
    """Move the account to another address: once it is confirmed there, and with 7 days to undo it."""
    await mails.ask_change(me, wanted.email, wanted.password, origin)
    return Accepted()


@router.get("/links/reset-password", response_class=HTMLResponse)
async def show_reset() -> Response:
    """The page that a mailed link leads to, for people: it asks for the new password, and posts it."""
    return page(LinkKind.RESET)


@router.get("/links/confirm-registration", response_class=HTMLResponse)
async def show_registration() -> Response:
    """The page that a mailed link leads to, for people: it asks for the account's password, and posts it."""
    return page(LinkKind.REGISTER)


@router.get("/links/{kind}", response_class=HTMLResponse)
async def show_link(kind: WithoutPassword) -> Response:
    """The page that a mailed link leads to, for people: it posts the link's secret once they press its button."""
    return page(kind)


@router.post("/links/reset-password", status_code=status.HTTP_204_NO_CONTENT)
async def reset_password(followed: NewPassword, mails: Mails, origin: Anonymous) -> None:
    """Set a new password. The address counts as verified, and every session ends."""
    await mails.reset(followed.token, followed.password, origin)


@router.post("/links/confirm-registration", status_code=status.HTTP_204_NO_CONTENT)
async def confirm_registration(followed: NewPassword, mails: Mails, origin: Anonymous) -> None:
    """Make the account that was asked for, with this password."""
    await mails.register(followed.token, followed.password, origin)


@router.post("/links/{kind}", status_code=status.HTTP_204_NO_CONTENT)
async def follow_link(kind: WithoutPassword, followed: FollowedLink, mails: Mails, origin: Anonymous) -> None:
    """Do what the mailed link is for: once, then `link_used`; too late, `link_expired`."""
    await mails.follow(kind, followed.token, origin)


@confirmed_registration.post("", status_code=status.HTTP_202_ACCEPTED)
async def ask_registration(wanted: Registration, mails: Mails) -> Accepted:
    """Register by mail. The answer is the same whether or not the address has an account."""
    await mails.ask_registration(wanted.email, wanted.name)
    return Accepted()
