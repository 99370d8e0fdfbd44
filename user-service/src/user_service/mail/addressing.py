"""Whom a waiting mail is for, decided when it is sent.

Requests only leave a note, the same one for every address, so that neither their answer nor their duration
tells whether there is an account.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.mail.composing import ACCOUNT_EXISTS
from user_service.mail.models import LinkKind, WaitingMail
from user_service.users import address_changes
from user_service.users import repository as users
from user_service.users.models import Status, User


async def addressed(connection: AsyncConnection, mail: WaitingMail, now: datetime) -> WaitingMail | None:
    """The mail with its address and person filled in, perhaps as another kind; None if nobody should get it."""
    return await _BY_KIND[mail.kind](connection, mail, now)


async def _verify(connection: AsyncConnection, mail: WaitingMail, _now: datetime) -> WaitingMail | None:
    user = await _person(connection, mail)
    if user is None or user.email_verified_at is not None:
        return None
    return _to(user, mail)


async def _reset(connection: AsyncConnection, mail: WaitingMail, _now: datetime) -> WaitingMail | None:
    user = await _person(connection, mail)
    return replace(_to(user, mail), sessions_cv=user.sessions_cv) if user else None


async def _register(connection: AsyncConnection, mail: WaitingMail, now: datetime) -> WaitingMail | None:
    return await _to_a_free_address(connection, mail, now)


async def _change(connection: AsyncConnection, mail: WaitingMail, now: datetime) -> WaitingMail | None:
    asking = await _person(connection, WaitingMail(mail.kind, user_id=mail.user_id))
    if asking is None or asking.sessions_cv != mail.sessions_cv or asking.email_key == mail.email_key:
        return None
    return await _to_a_free_address(connection, mail, now)


async def _undo(connection: AsyncConnection, mail: WaitingMail, _now: datetime) -> WaitingMail | None:
    return mail


async def _to_a_free_address(
    connection: AsyncConnection, mail: WaitingMail, now: datetime
) -> WaitingMail | None:
    if await users.find_by_email_key(connection, _key(mail)) is not None:
        # Only the address's owner learns that it has an account.
        return await _reset(connection, WaitingMail(ACCOUNT_EXISTS, email_key=mail.email_key), now)
    if await address_changes.reserved(connection, _key(mail), now, besides=mail.user_id):
        return None
    return mail


async def _person(connection: AsyncConnection, mail: WaitingMail) -> User | None:
    if mail.user_id is not None:
        user = await users.find(connection, mail.user_id)
    else:
        user = await users.find_by_email_key(connection, _key(mail))
    return user if user is not None and user.status is Status.ACTIVE else None


def _key(mail: WaitingMail) -> str:
    if mail.email_key is None:
        raise ValueError(f"a waiting mail of kind {mail.kind} without an address")
    return mail.email_key


def _to(user: User, mail: WaitingMail) -> WaitingMail:
    # The stored address, whatever spelling was asked for.
    return replace(mail, user_id=user.id, email=user.email, email_key=user.email_key)


_BY_KIND: Final[
    dict[str, Callable[[AsyncConnection, WaitingMail, datetime], Awaitable[WaitingMail | None]]]
] = {
    LinkKind.VERIFY: _verify,
    LinkKind.REGISTER: _register,
    LinkKind.CHANGE: _change,
    LinkKind.UNDO: _undo,
    LinkKind.RESET: _reset,
}
