"""Checking and changing what a person signs in with. Nothing is locked or open while hashing."""

import asyncio
import logging
from dataclasses import dataclass, replace
from time import monotonic
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from user_service.audit import repository as audit
from user_service.audit.models import AuditContext
from user_service.credentials.exceptions import PasswordChangedMeanwhile, WrongPassword
from user_service.credentials.schemas import Refusal
from user_service.database import Database
from user_service.passwords.hashing import Passwords, Place
from user_service.passwords.policy import PasswordRules
from user_service.users import repository
from user_service.users.allowance import OWN_PASSWORDS, PASSWORDS_REFUSED, Allowance
from user_service.users.changes import write
from user_service.users.email import InvalidEmail, parse_email
from user_service.users.exceptions import UserNotFound
from user_service.users.models import Status, User, utc_now

log = logging.getLogger(__name__)

# Finding a row takes longer than finding none: under a tenth of a millisecond, which shows over many tries.
_REFUSAL_QUANTUM = 0.02  # seconds
# Once people came from another system: checking an old hash of theirs may take half a second, one of ours 0.03.
_IMPORTED_REFUSAL_QUANTUM = 1.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not, and how many seconds have to pass before whoever tried may learn of it."""

    reason: Refusal
    wait: float


async def record_try(
    database: Database, user_id: UUID, context: AuditContext, *, matches: bool, asked: str
) -> None:
    """Raise WrongPassword, and leave a record: who guesses with a stolen session must be seen.

    Under the person's lock, whether right or wrong: of guesses at once no more than the allowance learn which.
    """
    await database.transaction(_record_try, user_id, context, matches=matches, asked=asked)
    if not matches:
        raise WrongPassword


async def _record_try(
    connection: AsyncConnection, user_id: UUID, context: AuditContext, *, matches: bool, asked: str
) -> None:
    await repository.lock(connection, user_id)
    await PASSWORDS_REFUSED.require(connection, context, user_id, utc_now())
    if not matches:
        await audit.append(connection, context, "user.password_refused", user_id, utc_now(), asked=asked)


async def who_may_try(connection: AsyncConnection, user_id: UUID, context: AuditContext) -> User:
    """The person, unless too many wrong passwords were sent with their tokens."""
    await PASSWORDS_REFUSED.require(connection, context, user_id, utc_now())
    user = await repository.find(connection, user_id)
    if user is None:
        raise UserNotFound
    return user


class CredentialService:
    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        rules: PasswordRules,
        *,
        require_verified_email: bool = False,
        allowance: Allowance = OWN_PASSWORDS,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._rules = rules
        self._require_verified = require_verified_email
        self._allowance = allowance

    async def verify(self, email: str, password: str, *, caller_waits: bool = False) -> User | Refused:
        """The person, as read together with the hash, if the credentials are right; else why not.

        If the password changes meanwhile, the version returned is the old one, and the session that is
        started with it ends at its first check. A missing account costs the same hash as a wrong password,
        and nobody learns of a refusal but a whole number of beats after its request came, whatever it took to
        find. The wait holds no place in the queue; a caller with places of its own waits by itself.
        """
        came = monotonic()
        verdict = await self._verify(email, password)
        if isinstance(verdict, User):
            return verdict
        wait = await self._until_a_quantum(came)
        if caller_waits:
            return Refused(verdict, wait)
        await asyncio.sleep(wait)
        return Refused(verdict, 0)

    async def change(self, user_id: UUID, current: str, new: str, context: AuditContext) -> User:
        """Replace the password; every session ends, the one that asked included."""
        with self._passwords.place() as place:
            read = await self._database.read(who_may_try, user_id, context)
            matches = await place.verify(read.password_hash, current)
        await record_try(self._database, user_id, context, matches=matches, asked="password")
        # May ask another server, and holds no place meanwhile.
        await self._rules.check(new, about=(read.email, read.name))
        password_hash = await self._passwords.hash(new)
        return await self._database.transaction(
            self._replace_password, user_id, read.password_hash, password_hash, context
        )

    async def _replace_password(
        self, connection: AsyncConnection, user_id: UUID, proved: str | None, new: str, context: AuditContext
    ) -> User:
        before = await repository.lock(connection, user_id)
        # The check before proved a hash; the change replaces that one and no other.
        if before.password_hash != proved:
            raise PasswordChangedMeanwhile
        await self._allowance.require(connection, context, user_id, utc_now())
        after = replace(before.with_sessions_ended(), password_hash=new)
        return await write(connection, context, before, after, "user.credentials_changed")

    async def _verify(self, email: str, password: str) -> User | Refusal:
        with self._passwords.place() as place:
            user = await self._by_email(email)
            matches = await place.verify(user.password_hash if user else None, password)
            if user is None:
                return Refusal.UNKNOWN
            if not matches:
                return Refusal.WRONG_PASSWORD
            if user.status is not Status.ACTIVE:
                return Refusal.DISABLED
            if self._require_verified and user.email_verified_at is None:
                return Refusal.UNVERIFIED
            await self._renew_hash(place, user, password)
            return user

    async def _until_a_quantum(self, came: float) -> float:
        imported = await self._database.read(repository.any_imported)
        took = monotonic() - came
        # Of the long ones only the first: who asks for a sign-in does not wait for a second one.
        quantum = (
            _IMPORTED_REFUSAL_QUANTUM if imported and took < _IMPORTED_REFUSAL_QUANTUM else _REFUSAL_QUANTUM
        )
        return quantum - took % quantum

    async def _by_email(self, email: str) -> User | None:
        try:
            key = parse_email(email).key
        except InvalidEmail:
            return None
        return await self._database.read(repository.find_by_email_key, key)

    async def _renew_hash(self, place: Place, user: User, password: str) -> None:
        """Hash again when the stored hash is weaker than today's, or another system's.

        Who has the right password gets in, even if nothing can be written now: the next sign-in tries again.
        """
        old = user.password_hash
        if old is None or not self._passwords.outdated(old):
            return
        new = await place.hash(password)
        try:
            await self._database.transaction(repository.replace_hash, user.id, old, new)
        except Problem as problem:
            log.warning("hash not renewed, reason=%s", problem.code)
