"""The small page that a mailed link opens: one button, which POSTs. Nothing on it comes from the request."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from fastapi import Response

from user_service.mails.models import LinkKind


@dataclass(frozen=True, slots=True)
class PageWords:
    title: str
    text: str
    button: str
    asks_password: bool = False


WORDS: Final = {
    LinkKind.VERIFY: PageWords(
        "Confirm your address", "Please confirm that this address is yours.", "Confirm"
    ),
    LinkKind.REGISTER: PageWords(
        "Confirm your registration", "Choose the password of your account.", "Create the account", True
    ),
    LinkKind.CHANGE: PageWords(
        "Use this address", "Your account will use this address from now on.", "Use this address"
    ),
    LinkKind.UNDO: PageWords(
        "Undo the change of address",
        "Your account comes back to this address, everybody is signed out, and we mail you a link to choose"
        " a new password.",
        "Undo the change",
    ),
    LinkKind.RESET: PageWords(
        "Choose a new password", "Everybody who is signed in will have to sign in again.", "Set it", True
    ),
}

FIELD: Final = (
    "<label>New password"
    '<input type="password" name="password" autocomplete="new-password" required></label>\n'
)


def page(kind: LinkKind) -> Response:
    html, policy = _rendered(kind)
    return Response(
        html,
        media_type="text/html",
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            "X-Robots-Tag": "noindex",
        },
    )


@cache
def _rendered(kind: LinkKind) -> tuple[str, str]:
    folder = resources.files("user_service.mails")
    style, script, frame = ((folder / f"page.{part}").read_text("utf-8") for part in ("css", "js", "html"))
    words = WORDS[kind]
    html = frame.format(
        title=words.title,
        text=words.text,
        button=words.button,
        password=FIELD if words.asks_password else "",
        style=style,
        script=script,
    )
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
