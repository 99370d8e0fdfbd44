"""Devices that an account has signed in from: a signed value, bound to the account, buys its own share."""

import hmac
import secrets
import unicodedata
from base64 import urlsafe_b64encode

import idna

# What is longer is nobody's address to user-service either, and normalising takes the square of what marks there are.
LONGEST = 1024


class Devices:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def account(self, email: str) -> str:
        """An account's name in the limits' store: one however typed, keyed so that it tells no address."""
        return self._mac("account", fold(email))[:22]

    def issue(self, account: str) -> str:
        device = secrets.token_urlsafe(12)
        return f"{device}.{self._mac('device', f'{device}.{account}')}"

    def known(self, account: str, value: str) -> str | None:
        """The device's id, if this account has signed in from it."""
        device, _, mac = value.partition(".")
        genuine = hmac.compare_digest(self._mac("device", f"{device}.{account}").encode(), mac.encode())
        return device if genuine else None

    def _mac(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}:{text}".encode(errors="surrogatepass"), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")


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
