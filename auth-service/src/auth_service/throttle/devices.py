"""Devices that an account has signed in from, or followed a mailed link on: a value that buys an allowance of its own."""

import hmac
import re
import secrets
import unicodedata
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

import idna

# What is longer is nobody's address to user-service either, and normalising takes the square of what marks there are.
LONGEST = 1024
LIFETIME: Final = 365 * 86400  # seconds
# What user-service gives to a device on which a mailed link was followed: it alone can say whether it is good.
_LINK: Final = re.compile(r"link\.([A-Za-z0-9_-]{1,200})", re.ASCII)
_VALUE: Final = re.compile(
    r"([A-Za-z0-9_-]{16})\.([A-Za-z0-9-]{1,64})\.(\d{1,10})\.(\d{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Device:
    """`sessions_cv` is the version at which the person's sessions had last ended: a change of password moves it on."""

    id: str
    subject: str
    sessions_cv: int


class Devices:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def account(self, email: str) -> str:
        """An account's name in the limits' store: one however typed, keyed so that it tells no address."""
        return self._mac("account", fold(email))[:22]

    def issue(self, account: str, subject: str, sessions_cv: int, now: int) -> str:
        """`now` in Unix seconds."""
        said = f"{secrets.token_urlsafe(12)}.{subject}.{sessions_cv}.{now}"
        return f"{said}.{self._mac('device', f'{said}.{account}')}"

    def read(self, account: str, value: str, now: int) -> Device | None:
        """The device, if this account has signed in from it within a year; its person may have changed since."""
        found = _VALUE.fullmatch(value)
        if found is None:
            return None
        device, subject, sessions_cv, issued_at, mac = found.groups()
        said = value.removesuffix(f".{mac}")
        if not hmac.compare_digest(self._mac("device", f"{said}.{account}"), mac):
            return None
        return Device(device, subject, int(sessions_cv)) if now < int(issued_at) + LIFETIME else None

    def _mac(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}:{text}".encode(errors="surrogatepass"), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")


def link_in(value: str) -> str | None:
    """The token of the mailed link that was followed on this device."""
    found = _LINK.fullmatch(value)
    return found.group(1) if found else None


def fold(email: str) -> str:
    """At least as coarse as user-service's key, so that no spelling of an address buys a second allowance."""
    local, _, domain = email.strip()[:LONGEST].rpartition("@")
    visible = "".join(char for char in local if unicodedata.category(char) != "Cf")
    local = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return f"{local}@{_fold_domain(domain.rstrip('.'))}"


def _fold_domain(domain: str) -> str:
    if domain.isascii():
        return domain.lower()  # as IDNA would have it, which takes its time
    try:
        return idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return unicodedata.normalize("NFKC", domain).casefold().rstrip(".")
