"""The words of each mail, in plain text and HTML.

No mail repeats what a stranger could have typed, a name least of all: else registering somebody's address
under the name "Win a prize at …" would send them an advertisement in our name.
"""

import html
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final

from user_service.mail.models import LIFETIME, LinkKind
from user_service.users.models import utc_now

# A mail that is no link's own: the link in it sets a new password.
ACCOUNT_EXISTS: Final = "account-exists"


@dataclass(frozen=True, slots=True)
class Words:
    link: LinkKind
    subject: str
    before: str
    button: str
    after: str


WORDS: Final = {
    LinkKind.VERIFY: Words(
        LinkKind.VERIFY,
        "Confirm your e-mail address",
        "Please confirm that this address is yours.",
        "Confirm this address",
        "If you have no account with us, somebody mistyped their address: do nothing.",
    ),
    LinkKind.REGISTER: Words(
        LinkKind.REGISTER,
        "Confirm your registration",
        "Your account is ready once you choose its password.",
        "Choose a password and create the account",
        "If you did not ask for an account, do nothing, and there will be none.",
    ),
    LinkKind.CHANGE: Words(
        LinkKind.CHANGE,
        "Confirm your new e-mail address",
        "You asked to use this address for your account from now on.",
        "Use this address",
        "If you did not ask for this, do nothing, and nothing changes.",
    ),
    LinkKind.UNDO: Words(
        LinkKind.UNDO,
        "The e-mail address of your account was changed",
        "Your account now uses another address than this one. If that was you, there is nothing to do.",
        "Undo the change",
        "If it was not you, undo the change: it brings your account back to this address, signs everybody"
        " out, and you then choose a new password.",
    ),
    LinkKind.RESET: Words(
        LinkKind.RESET,
        "Choose a new password",
        "Somebody, we hope you, asked for a new password for your account.",
        "Choose a new password",
        "If you did not ask for this, do nothing: your password stays as it is.",
    ),
    ACCOUNT_EXISTS: Words(
        LinkKind.RESET,
        "You already have an account",
        "Somebody, perhaps you, wanted to use this address for an account. It has one already, so nothing was"
        " changed. If that was you, sign in as always, or choose a new password if you do not know it any more.",
        "Choose a new password",
        "If it was not you, do nothing.",
    ),
}

HTML: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{subject}</title></head>
<body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif;color:#222;background:#f6f6f6">
<div style="max-width:480px;margin:auto;padding:24px 32px;background:#fff;border-radius:8px">
<h1 style="margin:8px 0 16px;font-size:20px">{subject}</h1>
<p>{before}</p>
<p style="margin:24px 0"><a href="{url}" style="display:inline-block;padding:12px 20px;border-radius:6px;\
color:#fff;background:#2456a6;text-decoration:none">{button}</a></p>
<p>The link can be used once, within {lifetime}.</p>
<p>{after}</p>
<p style="margin-top:24px;font-size:13px;color:#666">If the button does nothing, open this address in a browser:<br>
<a href="{url}" style="color:#2456a6;word-break:break-all">{url}</a></p>
</div>
</body>
</html>
"""


def compose(kind: str, url: str, sender: str, recipient: Address) -> EmailMessage:
    words = WORDS[kind]
    lifetime = _spoken(int(LIFETIME[words.link].total_seconds()))
    message = EmailMessage(policy=SMTP)
    message["Subject"] = words.subject
    message["From"] = sender
    message["To"] = recipient
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(domain=message["From"].addresses[0].domain or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    message.set_content(
        f"{words.before}\n\n{words.button}:\n{url}\n\n"
        f"The link can be used once, within {lifetime}.\n\n{words.after}\n"
    )
    message.add_alternative(
        HTML.format(
            subject=html.escape(words.subject),
            before=html.escape(words.before),
            url=html.escape(url),
            button=html.escape(words.button),
            lifetime=lifetime,
            after=html.escape(words.after),
        ),
        subtype="html",
    )
    return message


def recipient(email: str, email_key: str) -> Address:
    """The stored address with its domain as A-labels, so that only a local part can need SMTPUTF8."""
    local, _, _ = email.rpartition("@")
    _, _, domain = email_key.rpartition("@")
    return Address(username=local, domain=domain)


def _spoken(seconds: int) -> str:
    for unit, length in (("days", 86400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // 60} minutes"
