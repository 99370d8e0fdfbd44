"""Which passwords are accepted (NIST SP 800-63B-4): long enough, any characters, not easily guessed."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from user_service.passwords.breached import BreachedPasswords
from user_service.passwords.exceptions import PasswordRefused

LONGEST: Final = 256
CONTEXT: Final = ("gatehouse", "password", "passwort")


@dataclass(frozen=True, slots=True)
class PasswordRules:
    """What every new password has to pass, wherever it is set."""

    shortest: int
    breached: BreachedPasswords | None = None

    async def check(self, password: str, *, about: tuple[str, ...]) -> None:
        """Raise PasswordRefused. May ask another server: never inside a transaction."""
        check(password, shortest=self.shortest, about=about)
        if self.breached and await self.breached.contains(password):
            raise PasswordRefused("This password is in a published list of stolen ones. Choose another.")


def check(password: str, *, shortest: int, about: tuple[str, ...]) -> None:
    """Raise PasswordRefused, saying what to do; `about` are words of the person: address and name."""
    if len(password) < shortest:
        raise PasswordRefused(f"Use at least {shortest} characters.")
    if len(password) > LONGEST:
        raise PasswordRefused(f"Use at most {LONGEST} characters.")
    folded = password.casefold()
    if folded in _common() or len(set(folded)) < 5:
        raise PasswordRefused("This password is too common.")
    if len(_without_context(folded, about)) < shortest // 2:
        raise PasswordRefused("Most of this password is your name, your address or the name of this system.")


def _without_context(folded: str, about: tuple[str, ...]) -> str:
    words = {word for text in (*CONTEXT, *about) for word in (text.casefold(), *_parts(text.casefold()))}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= 4:
            folded = folded.replace(word, "")
    return folded


def _parts(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


@cache
def _common() -> frozenset[str]:
    text = (resources.files("user_service.passwords") / "common_passwords.txt").read_text("utf-8")
    return frozenset(text.split())
