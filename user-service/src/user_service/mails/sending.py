"""From the outbox to the SMTP server: after the commit, beside the requests, again until it works."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from user_service.database import Database
from user_service.mails import repository
from user_service.mails.repository import ClaimedMail
from user_service.mails.smtp import SmtpServer
from user_service.users.models import utc_now

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
BATCH: Final = 20
ATTEMPT_SECONDS: Final = 45.0  # one mail in all; each step has the server's own timeout
FIRST_PAUSE: Final = timedelta(seconds=60)  # longer than an attempt: it is also the claim
LONGEST_PAUSE: Final = timedelta(hours=1)
GIVE_UP_AFTER: Final = timedelta(hours=24)
PER_HOUR: Final = 5  # mails with one kind of link to one address, whoever asks for them
KEEP_EXPIRED: Final = timedelta(days=7)  # so that a late click is told "expired", not "unknown"
TIDY_SECONDS: Final = 3600.0

MAILS = Counter("mails_total", "Mails, by what became of them", ["kind", "outcome"])


class MailSender:
    """One runs in every worker; a mail is sent, at least once, by the one that claimed it."""

    def __init__(self, database: Database, server: SmtpServer, sender: str, link_base: str) -> None:
        self._database = database
        self._server = server
        self._sender = sender
        self._link_base = link_base.rstrip("/")

    async def run(self) -> None:
        """Until cancelled. What was just being sent then becomes due again by itself."""
        next_tidying = 0.0
        while True:
            more = False
            try:
                more = await self.send_due()
                if (now := asyncio.get_running_loop().time()) > next_tidying:
                    next_tidying = now + TIDY_SECONDS
                    await self._tidy()
            except Problem as problem:
                log.info("mails wait, reason=%s", problem.code)
            if not more:
                await asyncio.sleep(POLL_SECONDS)

    async def send_due(self) -> bool:
        """Try what is due now; whether there may be more."""
        due = await self._database.read(lambda connection: repository.due_mails(connection, utc_now(), BATCH))
        for mail_id, when in due:

            async def claim(
                connection: AsyncConnection, mail_id: int = mail_id, when: datetime = when
            ) -> ClaimedMail | None:
                return await repository.claim_mail(connection, mail_id, when, utc_now() + FIRST_PAUSE)

            claimed = await self._database.transaction(claim)
            if claimed is not None:
                await self._deliver(claimed)
        return len(due) == BATCH
