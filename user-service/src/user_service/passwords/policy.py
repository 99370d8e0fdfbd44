"""Which passwords are accepted (NIST SP 800-63B-4): long enough, any characters, not easily guessed."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from user_service.passwords.breached import BreachedPasswords
from user_service.passwords.exceptions import PasswordRefused

LONGEST: Final = 256
FEWEST_DIFFERENT: Final = 5
CONTEXT: Final = {
    "gatehouse": "the name of this system",
    "password": "the word \u201cpassword\u201d",
    "passwort": "the word \u201cpasswort\u201d",
}


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
    if folded in _common():
        raise PasswordRefused("This password is one of the most common ones. Choose another.")
    if len(set(folded)) < FEWEST_DIFFERENT:
        raise PasswordRefused(f"Use at least {FEWEST_DIFFERENT} different characters.")
    rest, found = _without_context(folded, about)
    if len(rest) < shortest // 2:
        raise PasswordRefused(
            f"Most of this password is {' and '.join(found)}. Add words that are hard to guess."
        )


def _without_context(folded: str, about: tuple[str, ...]) -> tuple[str, list[str]]:
    """What is left without the expected words, and which ones were found, as the person is told."""
    words = {
        word: "your e-mail address" if "@" in text else "your name"
        for text in about
        for word in (text.casefold(), *_parts(text.casefold()))
    } | CONTEXT
    found = []
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= 4 and word in folded:
            folded = folded.replace(word, "")
            found.append(words[word])
    return folded, list(dict.fromkeys(found))


def _parts(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


@cache
def _common() -> frozenset[str]:
    text = (resources.files("user_service.passwords") / "common_passwords.txt").read_text("utf-8")
    return frozenset(text.split())
