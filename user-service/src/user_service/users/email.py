"""One reading of an e-mail address, used at every door."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import idna

LONGEST: Final = 254
LONGEST_LOCAL_PART: Final = 64
REFUSED_IN_LOCAL_PART: Final = frozenset('()<>[]:;@\\," ')
# The last label of what is read as an IP address, 127.0.0.1 or 0x7f000001; no top-level domain is of this form.
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class InvalidEmail(ValueError):
    """The text is not an address that mail could be sent to."""


@dataclass(frozen=True, slots=True)
class Email:
    """An address as it was typed, and the key by which it is unique and looked up."""

    address: str
    key: str


def parse_email(text: str) -> Email:
    """Read an address, or raise InvalidEmail.

    The key is the local part in NFC, casefolded, and the domain as UTS-46 A-labels. What looks like
    another character, or like none, is refused rather than cleaned: no two readers can then differ.
    A domain without a dot is one: only the mail server knows which names its own network has.
    """
    address = unicodedata.normalize("NFC", text.strip(" \t\r\n"))
    local, at, domain = address.rpartition("@")
    if not at or not _plain_local_part(local):
        raise InvalidEmail("not an e-mail address")
    key = f"{unicodedata.normalize('NFC', local.casefold())}@{_a_label(domain)}"
    if len(key) > LONGEST or len(address) > LONGEST:
        raise InvalidEmail("too long for an e-mail address")
    return Email(address, key)


def email_key_prefix(text: str) -> str:
    """What a prefix search compares with the keys; the domain may still be unfinished."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())
    local, at, domain = folded.rpartition("@")
    if not at or domain.isascii():
        return folded
    try:
        return f"{local}@{_a_label(domain)}"
    except InvalidEmail:
        return folded


def _plain_local_part(local: str) -> bool:
    if not local or len(local.encode("utf-8", "surrogatepass")) > LONGEST_LOCAL_PART:
        return False
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return False
    # An encoded word (RFC 2047): the mail's To would name whoever is written in it.
    if "=?" in local:
        return False
    # Full-width letters, ligatures and the like change under NFKC; U+200B and its kin are category Cf.
    if unicodedata.normalize("NFKC", local) != local:
        return False
    return not any(
        character in REFUSED_IN_LOCAL_PART or unicodedata.category(character)[0] in "CZ"
        for character in local
    )


def _a_label(domain: str) -> str:
    # UTS-46 would silently drop these; the address as typed would then not be the address as keyed.
    if any(unicodedata.category(character)[0] in "CZ" for character in domain):
        raise InvalidEmail("the domain holds an invisible character")
    try:
        name = idna.encode(domain, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()
    except idna.IDNAError as error:
        raise InvalidEmail("not a domain") from error
    # With a dot at its end it would be the same domain under another key; in mail it has none (RFC 5321, 4.1.2).
    if name.endswith(".") or NUMBER.fullmatch(name.rpartition(".")[2]):
        raise InvalidEmail("not a domain")
    return name
