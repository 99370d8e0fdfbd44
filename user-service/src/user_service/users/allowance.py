"""How often people may do what leaves a row in their audit, and that for ever: the audit itself is counted."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from user_service.audit import repository as audit
from user_service.audit.models import AuditContext

HOUR: Final = timedelta(hours=1)


class TooManyChanges(Problem):
    status, code = HTTPStatus.TOO_MANY_REQUESTS, "too_many_changes"
    title = "Too many changes or attempts within an hour"
    detail = "Wait as long as `Retry-After` says."


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many of these actions an hour."""

    most: int
    actions: frozenset[str]

    async def require(
        self, connection: AsyncConnection, context: AuditContext, person: UUID, now: datetime
    ) -> None:
        """Raise TooManyChanges if the person has done it too often; what administrators do to others is not counted."""
        if context.actor != str(person):
            return
        earlier = await audit.nth_latest(connection, person, self.most, self.actions)
        if earlier is not None and (left := earlier + HOUR - now) > timedelta():
            raise TooManyChanges(headers={"Retry-After": str(math.ceil(left.total_seconds()))})


def own_changes(an_hour: int = 60) -> Allowance:
    """Of one's name and picture."""
    return Allowance(an_hour, frozenset({"user.updated", "avatar.replaced", "avatar.removed"}))


def own_passwords(an_hour: int = 60) -> Allowance:
    """Apart from what needs no password: else whoever has a session could keep the person from ending it."""
    return Allowance(an_hour, frozenset({"user.credentials_changed"}))


OWN_CHANGES: Final = own_changes()
OWN_PASSWORDS: Final = own_passwords()
# With a session alone nobody guesses the password behind it.
PASSWORDS_REFUSED: Final = Allowance(10, frozenset({"user.password_refused"}))
# Each is a mail to a stranger.
ADDRESSES_WANTED: Final = Allowance(5, frozenset({"user.address_wanted"}))
