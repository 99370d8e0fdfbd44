"""What can be done with people, one method a use case."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.preconditions import require_match
from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.database import Database
from user_service.pagination import Page
from user_service.passwords.hashing import Passwords
from user_service.passwords.policy import PasswordRules
from user_service.users import idempotency, repository
from user_service.users.allowance import OWN_CHANGES, Allowance
from user_service.users.changes import record, write
from user_service.users.email import parse_email
from user_service.users.exceptions import NotDeleted, OwnAccount, UserNotFound
from user_service.users.idempotency import AlreadyStored, KeyedRequest
from user_service.users.models import ADMIN, Status, User, new_user, tag_of, utc_now
from user_service.users.repository import Filters
from user_service.users.schemas import NewUser, UserChanges, UserOut

RECORDS_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Registered:
    user: UserOut
    replayed: bool


class Mails(Protocol):
    """What a person who comes or goes means for mails, in the same transaction."""

    async def greet(self, connection: AsyncConnection, user: User) -> None: ...

    async def forget_person(self, connection: AsyncConnection, user: User) -> None: ...


class UserService:
    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        rules: PasswordRules,
        mails: Mails,
        forget_files: Callable[[UUID], Awaitable[None]],
        allowance: Allowance = OWN_CHANGES,
    ) -> None:
        """`forget_files` removes what is kept of a person outside the database."""
        self._database = database
        self._passwords = passwords
        self._rules = rules
        self._mails = mails
        self._forget_files = forget_files
        self._allowance = allowance

    async def register(self, new: NewUser, context: AuditContext, request: KeyedRequest | None) -> Registered:
        """Create a person once: a repeated request with an Idempotency-Key gets the first one's answer."""
        if request and (response := await self._stored(request)):
            return response
        await self._rules.check(new.password, about=(new.email, new.name))
        password_hash = await self._passwords.hash(new.password, for_anybody=True)
        user = new_user(parse_email(new.email), new.name, password_hash, utc_now())
        try:
            return await self._database.transaction(self._add, user, context, request)
        except AlreadyStored:
            if request and (response := await self._stored(request)):
                return response
            raise

    async def find(self, user_id: UUID) -> User:
        """The person, deleted or not, or UserNotFound."""
        user = await self._database.read(repository.find, user_id)
        if user is None:
            raise UserNotFound
        return user

    async def page(self, filters: Filters, limit: int, cursor: str | None) -> Page[User]:
        return await self._database.read(repository.page, filters, limit, cursor)

    async def update(
        self, user_id: UUID, changes: UserChanges, if_match: str | None, context: AuditContext
    ) -> User:
        return await self._database.transaction(self._update, user_id, changes, if_match, context)

    async def set_roles(
        self, user_id: UUID, roles: list[str], if_match: str | None, context: AuditContext
    ) -> User:
        wanted = tuple(sorted(set(roles)))
        return await self._database.transaction(_set_roles, user_id, wanted, if_match, context)

    async def disable(self, user_id: UUID, context: AuditContext) -> User:
        """Keep a person out: every session ends, and no sign-in succeeds."""
        _refuse_own_account(user_id, context)

        def disabled(user: User) -> User | None:
            if user.status is not Status.ACTIVE:
                return None
            return replace(user.with_sessions_ended(), status=Status.DISABLED, disabled_at=utc_now())

        return await self._database.transaction(_change, user_id, context, "user.disabled", disabled)

    async def enable(self, user_id: UUID, context: AuditContext) -> User:
        def enabled(user: User) -> User | None:
            if user.status is not Status.DISABLED:
                return None
            return replace(user, status=Status.ACTIVE, disabled_at=None)

        return await self._database.transaction(_change, user_id, context, "user.enabled", enabled)

    async def delete(self, user_id: UUID, context: AuditContext) -> User:
        """Take a person away so that they can still be restored; the address stays taken."""
        _refuse_own_account(user_id, context)

        def deleted(user: User) -> User | None:
            if user.status is Status.DELETED:
                return None
            return replace(user.with_sessions_ended(), status=Status.DELETED, deleted_at=utc_now())

        return await self._database.transaction(_change, user_id, context, "user.deleted", deleted)

    async def restore(self, user_id: UUID, context: AuditContext) -> User:
        """Bring a deleted person back; who was disabled before is disabled again."""

        def restored(user: User) -> User:
            if user.status is not Status.DELETED:
                raise NotDeleted
            status = Status.DISABLED if user.disabled_at else Status.ACTIVE
            return replace(user, status=status, deleted_at=None)

        return await self._database.transaction(_change, user_id, context, "user.restored", restored)

    async def erase(self, user_id: UUID, context: AuditContext) -> None:
        """Remove a deleted person for good; the audit keeps what happened, under a name that means nobody."""
        nobody = uuid4()
        if (await self.find(user_id)).status is not Status.DELETED:
            raise NotDeleted
        # First the files: without the row nobody would find them again.
        await self._forget_files(user_id)
        # Years of records are more than one transaction has time for.
        while await self._database.transaction(_forget_records, user_id, nobody) == RECORDS_AT_ONCE:
            self._database.begin_request()
        await self._database.transaction(self._erase, user_id, nobody, context)
        # Again: until the row was gone, an upload that had begun before could still come to its end.
        await self._forget_files(user_id)

    async def _add(
        self, connection: AsyncConnection, user: User, context: AuditContext, request: KeyedRequest | None
    ) -> Registered:
        if request:
            await idempotency.claim(connection, request, user.created_at)
        await repository.add(connection, user)
        await self._mails.greet(connection, user)
        await record(connection, context, user, "user.created", user.created_at)
        created = UserOut.of(user)
        if request:
            await idempotency.store_response(connection, request, user.id, created.model_dump_json())
        return Registered(created, replayed=False)

    async def _update(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        changes: UserChanges,
        if_match: str | None,
        context: AuditContext,
    ) -> User:
        before = await repository.lock(connection, user_id)
        require_match(if_match, tag_of(before.id, before.version))
        wanted = changes.model_dump(exclude_none=True)
        changed = {field: value for field, value in wanted.items() if getattr(before, field) != value}
        if not changed:
            return before
        await self._allowance.require(connection, context, user_id, utc_now())
        after = replace(before, **changed)
        return await write(connection, context, before, after, "user.updated", fields=sorted(changed))

    async def _erase(
        self, connection: AsyncConnection, user_id: UUID, nobody: UUID, context: AuditContext
    ) -> None:
        user = await _lock_deleted(connection, user_id)
        await record(connection, context, user, "user.erased", utc_now())
        await audit.pseudonymise(connection, user_id, nobody, RECORDS_AT_ONCE)
        await idempotency.forget_person(connection, user_id)
        await self._mails.forget_person(connection, user)
        await repository.remove(connection, user_id)

    async def _stored(self, request: KeyedRequest) -> Registered | None:
        body = await self._database.read(idempotency.stored_response, request)
        return Registered(UserOut.model_validate_json(body), replayed=True) if body else None


async def _set_roles(
    connection: AsyncConnection,
    user_id: UUID,
    wanted: tuple[str, ...],
    if_match: str | None,
    context: AuditContext,
) -> User:
    before = await repository.lock(connection, user_id)
    require_match(if_match, tag_of(before.id, before.version))
    if before.roles == wanted:
        return before
    if ADMIN in before.roles and ADMIN not in wanted:
        _refuse_own_account(user_id, context)
    return await write(
        connection,
        context,
        before,
        before.with_roles(wanted),
        "user.roles_changed",
        granted=sorted(set(wanted) - set(before.roles)),
        taken=sorted(set(before.roles) - set(wanted)),
    )


async def _change(
    connection: AsyncConnection,
    user_id: UUID,
    context: AuditContext,
    kind: str,
    change: Callable[[User], User | None],
) -> User:
    """Apply `change` under the row's lock; None from it means that there is nothing to change."""
    before = await repository.lock(connection, user_id)
    after = change(before)
    return before if after is None else await write(connection, context, before, after, kind)


async def _forget_records(connection: AsyncConnection, user_id: UUID, nobody: UUID) -> int:
    await _lock_deleted(connection, user_id)
    return await audit.pseudonymise(connection, user_id, nobody, RECORDS_AT_ONCE)


async def _lock_deleted(connection: AsyncConnection, user_id: UUID) -> User:
    user = await repository.lock(connection, user_id)
    if user.status is not Status.DELETED:
        raise NotDeleted
    return user


def _refuse_own_account(user_id: UUID, context: AuditContext) -> None:
    if context.actor == str(user_id):
        raise OwnAccount
