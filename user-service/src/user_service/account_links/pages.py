"""The small pages that mailed links open: one button, which POSTs. Nothing on them comes from the request."""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Final

from fastapi import Response

from user_service.mail.models import LinkKind
from user_service.passwords.policy import LONGEST


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
        "Choose a new password", "You will be signed out on all your devices.", "Set the password", True
    ),
}

# The address is for password managers, which save a password under it; the script takes it from the fragment.
FIELD: Final = """\
<input type="email" name="username" autocomplete="username" hidden>
<label for="password">New password</label>
<p id="rule">At least {shortest} characters. Not a common one, and not your name or address.</p>
<input type="password" id="password" name="password" autocomplete="new-password" aria-describedby="rule" \
minlength="{shortest}" maxlength="{longest}" required>
"""


class LinkPages:
    """One page for each kind of link, rendered once."""

    def __init__(self, shortest: int, home: str) -> None:
        """`shortest` is the least length of a password; `home` is where people go on when they are done."""
        self._pages = {kind: _rendered(kind, shortest, home) for kind in LinkKind}

    def of(self, kind: LinkKind) -> Response:
        html, policy = self._pages[kind]
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


def _rendered(kind: LinkKind, shortest: int, home: str) -> tuple[str, str]:
    folder = resources.files("user_service.account_links")
    style, script, frame = ((folder / f"page.{part}").read_text("utf-8") for part in ("css", "js", "html"))
    words = WORDS[kind]
    html = frame.format(
        title=words.title,
        text=words.text,
        button=words.button,
        password=FIELD.format(shortest=shortest, longest=LONGEST) if words.asks_password else "",
        home=escape(home),
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
