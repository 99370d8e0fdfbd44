"""An SMTP server of real shape, and the sender that empties the outbox into it."""

import email
import email.policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from user_service.mail.sending import MailSender
from user_service.mail.smtp import SmtpServer
from user_service.main import Parts
from user_service.users.models import utc_now


def _bytes(content: bytes | str | None) -> bytes:
    assert isinstance(content, bytes)
    return content


class Inbox:
    """An SMTP server that keeps what it gets, or refuses with `response`."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.response = "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.response.startswith("250"):
            message = email.message_from_bytes(
                _bytes(envelope.content), EmailMessage, policy=email.policy.default
            )
            self.mails.append((envelope.rcpt_tos[0], message))
        return self.response

    def take(self) -> tuple[str, EmailMessage]:
        assert len(self.mails) == 1, [str(mail["Subject"]) for _, mail in self.mails]
        return self.mails.pop()


class Post:
    """The inbox, and the sender that empties the outbox into it."""

    def __init__(self, parts: Parts, port: int) -> None:
        self.inbox = Inbox()
        self.port = port
        server = SmtpServer("127.0.0.1", port, timeout=2)
        self.sender = MailSender(parts.database, server, "no-reply@gatehouse.example", "http://app/links")

    async def token(self, to: str, kind: str) -> str:
        """Send what is due, and take the token from the only mail."""
        await self.sender.send_due(utc_now())
        recipient, mail = self.inbox.take()
        assert recipient == to
        for part in ("plain", "html"):
            body = mail.get_body((part,))
            assert body is not None
            assert f"http://app/links/{kind}#token=" in body.get_content()
        plain = mail.get_body(("plain",))
        assert plain is not None
        return str(plain.get_content().partition("#token=")[2].split()[0])

    async def nothing(self) -> None:
        await self.sender.send_due(utc_now())
        assert self.inbox.mails == []
