"""Forgets answers to creating POSTs after a day, so that the table and what it knows of people stay small."""

import asyncio
import logging
import random
from datetime import timedelta
from typing import Final

from service_kit.problems import Problem
from user_service.database import Database
from user_service.users import idempotency
from user_service.users.models import utc_now

log = logging.getLogger(__name__)

KEPT: Final = timedelta(hours=24)
BATCH: Final = 500


async def forget_old_answers(database: Database) -> None:
    """Every ten minutes or so, a bounded batch at a time, until cancelled."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * 600)  # noqa: S311
        try:
            while await forget_batch(database) == BATCH:
                pass
        except Problem as problem:
            log.info("old answers stay for now, reason=%s", problem.code)


async def forget_batch(database: Database) -> int:
    before = utc_now() - KEPT
    return await database.transaction(lambda connection: idempotency.forget_before(connection, before, BATCH))
