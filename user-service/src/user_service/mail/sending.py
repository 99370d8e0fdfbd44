"""From the outbox to the SMTP server: after the commit, beside the requests, again until it works."""

import asyncio
import logging
import secrets
from datetime import datetime, timedelta
from email.headerregistry import Address
from typing import Final
from urllib.parse import quote

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from user_service.database import Database
from user_service.mail import links, repository
from user_service.mail.addressing import addressed
from user_service.mail.composing import WORDS, compose, recipient
from user_service.mail.models import ClaimedMail, LinkKind
from user_service.mail.smtp import RefusedForGood, SmtpServer, reason
from user_service.users.models import utc_now

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
BATCH: Final = 20
ATTEMPT_SECONDS: Final = 45.0  # one mail in all; each step has the server's own timeout
FIRST_PAUSE: Final = timedelta(seconds=60)  # longer than an attempt: it is also the claim
LONGEST_PAUSE: Final = timedelta(hours=1)
GIVE_UP_AFTER: Final = timedelta(hours=24)
PER_HOUR: Final = 5  # mails with one kind of link that is good to one address, whoever asks for them

MAILS = Counter("mails_total", "Mails, by what became of them", ["kind", "outcome"])


class MailSender:
    """One runs in every worker; a mail is sent, at least once, by the one that claimed it."""

    def __init__(
        self, database: Database, server: SmtpServer, sender: str, link_base: str, *, own_pages: bool = False
    ) -> None:
        self._database = database
        self._server = server
        self._sender = sender
        self._link_base = link_base
        self._own_pages = own_pages  # else the application's, which know no more than the token

    async def run(self) -> None:
        """Until cancelled. What was just being sent then becomes due again by itself."""
        while True:
            more = False
            try:
                more = await self.send_due(utc_now())
            except Problem as problem:
                log.info("mails wait, reason=%s", problem.code)
            if not more:
                await asyncio.sleep(POLL_SECONDS)

    async def send_due(self, now: datetime) -> bool:
        """Try what is due at `now`; whether there may be more."""
        due = await self._database.read(repository.due_mails, now, BATCH)
        for mail_id, when in due:
            claimed = await self._database.transaction(
                repository.claim_mail, mail_id, when, now + FIRST_PAUSE
            )
            if claimed is not None:
                await self._deliver(claimed, now)
        return len(due) == BATCH

    async def _deliver(self, claimed: ClaimedMail, now: datetime) -> None:
        try:
            outcome = await self._attempt(claimed, now)
        except RefusedForGood as refusal:
            outcome = "refused"
            log.warning("mail refused for good, kind=%s reason=%s", claimed.mail.kind, refusal)
        except Problem:
            raise
        except Exception as failure:  # noqa: BLE001 - one mail that cannot be sent holds up no other
            outcome = await self._postpone(claimed, failure, now)
        MAILS.labels(claimed.mail.kind, outcome).inc()
        if outcome != "postponed":
            await self._database.transaction(repository.remove_mail, claimed.id)

    async def _attempt(self, claimed: ClaimedMail, now: datetime) -> str:
        prepared = await self._database.transaction(self._prepare, claimed, now)
        if prepared is None:
            return "dropped"
        kind, url, to = prepared
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await self._server.send(compose(kind, url, self._sender, to))
        log.info("mail sent, kind=%s attempts=%d", kind, claimed.attempts)
        return "sent"

    async def _prepare(
        self, connection: AsyncConnection, claimed: ClaimedMail, now: datetime
    ) -> tuple[str, str, Address] | None:
        """Make the link of this attempt. What an earlier attempt mailed, if it did arrive, stays good too."""
        mail = await addressed(connection, claimed.mail, now)
        if mail is None or mail.email is None or mail.email_key is None:
            return None
        link = WORDS[mail.kind].link
        # A notice of an undoable change is never dropped: a thief would only have to ask for five others first.
        if link is not LinkKind.UNDO and claimed.attempts == 1:
            # Not those that have ended: else strangers who ask keep the person from a link that works.
            good = await links.good_since(connection, mail, link, now - timedelta(hours=1), now)
            if good >= PER_HOUR:
                log.warning("mail dropped, kind=%s reason=too_many_to_one_address", mail.kind)
                return None
        token = secrets.token_urlsafe(32)
        await links.add(connection, token, mail, link, now)
        url = f"{self._link_base}/{link}#token={token}"
        if self._own_pages:
            url += f"&email={quote(mail.email)}"  # password managers save a password under it
        return mail.kind, url, recipient(mail.email, mail.email_key)

    async def _postpone(self, claimed: ClaimedMail, failure: Exception, now: datetime) -> str:
        if now - claimed.created_at > GIVE_UP_AFTER:
            log.error("mail given up, kind=%s reason=%s", claimed.mail.kind, reason(failure))
            return "given_up"
        pause = min(FIRST_PAUSE * 2 ** (claimed.attempts - 1), LONGEST_PAUSE)
        log.warning("mail postponed, kind=%s reason=%s", claimed.mail.kind, reason(failure))
        await self._database.transaction(repository.postpone_mail, claimed.id, now + pause)
        return "postponed"
