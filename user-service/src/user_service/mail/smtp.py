"""One mail to one SMTP server, with what its answer means for the next attempt."""

from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal

import aiosmtplib

Tls = Literal["off", "starttls", "tls"]


class RefusedForGood(Exception):
    """The server will never take this mail; holds the code of its answer and never an address."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    host: str
    port: int
    tls: Tls = "off"
    username: str | None = None
    password: str | None = None
    timeout: float = 10.0

    async def send(self, message: EmailMessage) -> None:
        """Raises RefusedForGood, or whatever else went wrong, which may be better next time."""
        try:
            await aiosmtplib.send(
                message,
                hostname=self.host,
                port=self.port,
                username=self.username,
                password=self.password,
                use_tls=self.tls == "tls",
                start_tls=self.tls == "starttls",
                timeout=self.timeout,
            )
        except aiosmtplib.SMTPRecipientsRefused as refusal:
            # One recipient a mail. A refused sender or sign-in is ours to mend, and the mail waits for that.
            _refuse_for_good(refusal.recipients[0].code, refusal)
        except aiosmtplib.SMTPDataError as refusal:
            _refuse_for_good(refusal.code, refusal)
        except aiosmtplib.SMTPNotSupported as refusal:
            raise RefusedForGood("no SMTPUTF8") from refusal


def reason(failure: BaseException) -> str:
    """A short name for a log line. Never str(failure): a server repeats the address."""
    code = getattr(failure, "code", None)
    return f"{type(failure).__name__} {code}" if code else type(failure).__name__


def _refuse_for_good(code: int, refusal: aiosmtplib.SMTPException) -> None:
    if code < 500:
        raise refusal
    raise RefusedForGood(str(code)) from refusal
