"""Asking for a mail, and following the link in it. Asking leaves the same note for every address."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.account_links.exceptions import LinkExpired, LinkUnknown, LinkUsed
from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.credentials.service import record_try, who_may_try
from user_service.database import Database
from user_service.mail import links
from user_service.mail import repository as outbox
from user_service.mail.models import Link, LinkKind, WaitingMail
from user_service.passwords.hashing import Passwords
from user_service.passwords.policy import PasswordRules
from user_service.users import address_changes
from user_service.users import repository as users
from user_service.users.allowance import ADDRESSES_WANTED
from user_service.users.changes import record, write
from user_service.users.email import Email, InvalidEmail, parse_email
from user_service.users.exceptions import UserNotFound
from user_service.users.models import Status, User, new_user, utc_now

# For so long a link that was followed counts at the sign-in.
FOLLOWED_FOR: Final = timedelta(hours=1)


class AccountLinkService:
    def __init__(self, database: Database, passwords: Passwords, rules: PasswordRules) -> None:
        self._database = database
        self._passwords = passwords
        self._rules = rules

    async def ask_verification(self, email: str) -> None:
        await self._leave(WaitingMail(LinkKind.VERIFY, email_key=parse_email(email).key))

    async def ask_reset(self, email: str) -> None:
        await self._leave(WaitingMail(LinkKind.RESET, email_key=parse_email(email).key))

    async def ask_registration(self, email: str, name: str) -> None:
        """The account is made when the link is followed, so nobody holds an address that is not theirs."""
        wanted, data = parse_email(email), {"name": name}
        await self._leave(
            WaitingMail(LinkKind.REGISTER, email=wanted.address, email_key=wanted.key, data=data)
        )

    async def ask_change(self, user_id: UUID, email: str, password: str, context: AuditContext) -> None:
        """Needs the password: a stolen session alone must not move the account."""
        with self._passwords.place() as place:
            user = await self._database.read(who_may_try, user_id, context)
            matches = await place.verify(user.password_hash, password)
        await record_try(self._database, user_id, context, matches=matches, asked="email")
        new = parse_email(email)
        mail = WaitingMail(LinkKind.CHANGE, user_id, new.address, new.key, sessions_cv=user.sessions_cv)
        await self._database.transaction(_leave_change, user_id, mail, context)

    async def follow(self, kind: LinkKind, token: str, context: AuditContext) -> User:
        """Do what the link is for, once; LinkUsed, LinkExpired or LinkUnknown otherwise. Returns the person after it."""
        return await self._database.transaction(_follow, kind, token, context)

    async def register(self, token: str, password: str, context: AuditContext) -> None:
        """Make the account. Who reads the mail chooses the password: a stranger may have asked for the mail."""
        link = await self._database.read(_usable, LinkKind.REGISTER, token, utc_now())
        await self._rules.check(password, about=(link.email, _name(link)))
        password_hash = await self._passwords.hash(password)
        await self._database.transaction(_register, token, password_hash, context)

    async def reset(self, token: str, password: str, context: AuditContext) -> User:
        """Set the password, mark the address verified, end every session and drop pending changes."""
        user = await self._database.read(_owner_of_reset, token, utc_now())
        await self._rules.check(password, about=(user.email, user.name))
        password_hash = await self._passwords.hash(password)
        return await self._database.transaction(_reset, token, password_hash, context)

    async def followed(self, email: str, token: str | None) -> str | None:
        """The name of the link that was followed lately in a mail to this address, perhaps the one with this token."""
        try:
            key = parse_email(email).key
        except InvalidEmail:
            return None
        since = utc_now() - FOLLOWED_FOR
        return await self._database.read(links.followed, key, token, since)

    async def _leave(self, mail: WaitingMail) -> None:
        await self._database.transaction(outbox.add_mail, mail, utc_now())


async def _leave_change(
    connection: AsyncConnection, user_id: UUID, mail: WaitingMail, context: AuditContext
) -> None:
    now = utc_now()
    await users.lock(connection, user_id)
    await ADDRESSES_WANTED.require(connection, context, user_id, now)
    await audit.append(connection, context, "user.address_wanted", user_id, now)
    await outbox.add_mail(connection, mail, now)


async def _register(
    connection: AsyncConnection, token: str, password_hash: str, context: AuditContext
) -> None:
    now = utc_now()
    link = await _take(connection, LinkKind.REGISTER, token, now)
    user = new_user(Email(link.email, link.email_key), _name(link), password_hash, now)
    user = replace(user, email_verified_at=now)
    await users.add(connection, user)
    await address_changes.refuse_reserved(connection, user)
    await record(connection, _by(user, context), user, "user.created", now)


async def _reset(connection: AsyncConnection, token: str, password_hash: str, context: AuditContext) -> User:
    now = utc_now()
    link = await _take(connection, LinkKind.RESET, token, now)
    before = await _owner(connection, link)
    after = replace(
        before.with_sessions_ended(),
        password_hash=password_hash,
        email_verified_at=before.email_verified_at or now,
    )
    return await write(
        connection, _by(before, context), before, after, "user.credentials_changed", by="reset"
    )


async def _follow(connection: AsyncConnection, kind: LinkKind, token: str, context: AuditContext) -> User:
    now = utc_now()
    link = await _take(connection, kind, token, now)
    act = {LinkKind.VERIFY: _verify, LinkKind.CHANGE: _change, LinkKind.UNDO: _undo}[kind]
    return await act(connection, link, context, now)


async def _verify(connection: AsyncConnection, link: Link, context: AuditContext, now: datetime) -> User:
    before = await _owner(connection, link)
    if before.email_key != link.email_key:
        raise LinkExpired
    if before.email_verified_at is not None:
        return before
    after = replace(before, email_verified_at=now)
    return await write(
        connection, _by(before, context), before, after, "user.updated", fields=["email_verified"]
    )


async def _change(connection: AsyncConnection, link: Link, context: AuditContext, now: datetime) -> User:
    before = await _owner(connection, link)
    after = replace(before, email=link.email, email_key=link.email_key, email_verified_at=now)
    after = await write(connection, _by(before, context), before, after, "user.updated", fields=["email"])
    await address_changes.refuse_reserved(connection, after)
    # Nobody showed that an unconfirmed address is theirs: whoever reads the mail of a mistyped one had the account.
    if before.email_verified_at is not None:
        change = await address_changes.add(connection, before, now)
        notice = WaitingMail(
            LinkKind.UNDO, before.id, before.email, before.email_key, data={"change": change}
        )
        await outbox.add_mail(connection, notice, now)
    return after


async def _undo(connection: AsyncConnection, link: Link, context: AuditContext, now: datetime) -> User:
    """Back to the old address; and out with whoever changed it, who knows the password."""
    before = await _owner(connection, link)
    change = await address_changes.find(connection, (link.data or {})["change"])
    if change is None or change.undo_until <= now:
        raise LinkExpired
    after = replace(
        before.with_sessions_ended(),
        email=change.old_email,
        email_key=change.old_email_key,
        email_verified_at=now,
        password_hash=None,
    )
    after = await write(
        connection, _by(before, context), before, after, "user.credentials_changed", by="undo"
    )
    await address_changes.close(connection, before.id, first=change.id)
    await outbox.add_mail(connection, WaitingMail(LinkKind.RESET, before.id), now)
    return after


async def _usable(connection: AsyncConnection, kind: LinkKind, token: str, now: datetime) -> Link:
    link = await links.find(connection, token)
    if link is None or link.kind is not kind:
        raise LinkUnknown
    if link.used_at is not None:
        raise LinkUsed
    if link.expires_at <= now:
        raise LinkExpired
    return link


async def _take(connection: AsyncConnection, kind: LinkKind, token: str, now: datetime) -> Link:
    """The link, used up."""
    link = await _usable(connection, kind, token, now)
    if not await links.use(connection, token, now):
        raise LinkUsed
    return link


async def _owner_of_reset(connection: AsyncConnection, token: str, now: datetime) -> User:
    return _checked(
        link := await _usable(connection, LinkKind.RESET, token, now),
        await users.find(connection, link.user_id) if link.user_id else None,
    )


async def _owner(connection: AsyncConnection, link: Link) -> User:
    """The person whose link this is, locked; LinkExpired if they or their sessions have gone since."""
    try:
        return _checked(link, await users.lock(connection, link.user_id) if link.user_id else None)
    except UserNotFound as gone:
        raise LinkExpired from gone


def _checked(link: Link, user: User | None) -> User:
    if user is None or user.status is not Status.ACTIVE:
        raise LinkExpired
    if link.sessions_cv is not None and link.sessions_cv != user.sessions_cv:
        raise LinkExpired
    if link.kind is LinkKind.RESET and link.email_key != user.email_key:
        raise LinkExpired
    return user


def _name(link: Link) -> str:
    """The name that was given with the registration."""
    name: str = (link.data or {})["name"]
    return name


def _by(user: User, context: AuditContext) -> AuditContext:
    """Who holds the link is taken for the person."""
    return replace(context, actor=str(user.id))
