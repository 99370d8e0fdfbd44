"""Removes what is done, so that tables, and what they know of people, stay small: a bounded batch at a time."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from user_service.database import Database
from user_service.mail import links
from user_service.mail import repository as outbox
from user_service.users import address_changes, idempotency
from user_service.users.models import utc_now

log = logging.getLogger(__name__)

# Forgets at most so many rows that ended before a time; how many went.
Forget = Callable[[AsyncConnection, datetime, int], Awaitable[int]]

BATCH: Final = 500
EVERY_SECONDS: Final = 600
KEPT: Final[dict[Forget, timedelta]] = {
    idempotency.forget_before: timedelta(hours=24),
    links.forget_expired: timedelta(days=7),  # so that a late click is told "expired", not "unknown"
    address_changes.forget_ended: timedelta(days=7),
    outbox.forget_unsent: timedelta(days=7),  # what waits for a mail server that nobody has named
}


async def apply_retention(database: Database) -> None:
    """Every ten minutes or so, until cancelled. Events need none of it: the relay removes what it has told."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_SECONDS)  # noqa: S311
        try:
            await tidy(database, utc_now())
        except Problem as problem:
            log.info("old rows stay for now, reason=%s", problem.code)


async def tidy(database: Database, now: datetime) -> None:
    for forget, kept in KEPT.items():
        while await database.transaction(forget, now - kept, BATCH) == BATCH:
            pass
