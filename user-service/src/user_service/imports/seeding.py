"""People who are made up, for trying out sizes: spread over years, statuses and roles as real ones are."""

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.database import Database
from user_service.passwords.hashing import HASHER
from user_service.users import repository
from user_service.users.email import Email
from user_service.users.models import RoleRow, Status, User, UserRow, new_user, utc_now

BATCH: Final = 5_000
SPAN: Final = timedelta(days=5 * 365)
FIRST_NAMES: Final = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Joan", "Ken", "Linus", "Zuse")
LAST_NAMES: Final = ("Allen", "Clarke", "Dijkstra", "Hopper", "Liskov", "Lovelace", "Thompson", "Turing")
STATUSES: Final = {Status.ACTIVE: 0.97, Status.DISABLED: 0.02, Status.DELETED: 0.01}
ROLES: Final[dict[tuple[str, ...], float]] = {(): 0.97, ("editor",): 0.025, ("editor", "support"): 0.005}


async def seed(database: Database, count: int, progress: Callable[[int], None]) -> None:
    """Add `count` people. Nobody is told of them: no event, no audit record, no mail."""
    people = _made_up(count)
    for made in range(0, count, BATCH):
        batch = [next(people) for _ in range(min(BATCH, count - made))]
        await database.transaction(_add, batch)
        progress(made + len(batch))


async def _add(connection: AsyncConnection, people: list[User]) -> None:
    await connection.execute(insert(UserRow), [repository.row_of(person) for person in people])
    roles = [{"user_id": person.id, "role": role} for person in people for role in person.roles]
    if roles:
        await connection.execute(insert(RoleRow), roles)


def _made_up(count: int) -> Iterator[User]:
    # As long as a real hash, of a password that nobody knows.
    password_hash = HASHER.hash(secrets.token_urlsafe())
    now, run = utc_now(), secrets.token_hex(3)
    for number in range(count):
        yield _person(number, run, now - SPAN + SPAN * (number / count), now, password_hash)


def _person(number: int, run: str, came: datetime, now: datetime, password_hash: str) -> User:
    first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)  # noqa: S311, no secrets
    address = f"{first}.{last}.{run}.{number}@example.com"
    status = random.choices(list(STATUSES), list(STATUSES.values()))[0]  # noqa: S311
    return replace(
        # Of plain ASCII the key is the lower case; reading it as people's addresses are read takes longest.
        new_user(Email(address, address.lower()), f"{first} {last}", password_hash, came),
        status=status,
        roles=random.choices(list(ROLES), list(ROLES.values()))[0],  # noqa: S311
        disabled_at=now if status is Status.DISABLED else None,
        deleted_at=now if status is Status.DELETED else None,
        email_verified_at=came,
    )
