"""What a response says has ended: one header, written by services and read by the gateway that passes the response on.

It is a list of RFC 9651 with the facts of the revocation stream's entries, in their order:

    Gatehouse-Revoked: session;until=1764511200;sid="4ZkS…", subject;until=1764511200;sub="0197…";cv=7
"""

import re
from collections.abc import Iterable
from typing import Final

from service_kit.revocations import Revocation

HEADER: Final = "Gatehouse-Revoked"
MOST_ENTRIES: Final = 64
MOST_BYTES: Final = 8192

_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PARAMETER: Final = re.compile(
    r'; *([a-z][a-z0-9_-]{0,31})=(?:([0-9]{1,15})|"((?:[ !#-\[\]-~]|\\["\\])*)")', re.ASCII
)
_NEXT: Final = re.compile(r"[ \t]*,[ \t]*")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_LONGEST_ID: Final = 255


class Malformed(ValueError):
    """The header's value is no such list: nothing of it counts (RFC 9651, section 4.2)."""


class TooLarge(ValueError):
    """The header names more than anybody reads."""


def headers(revocations: Iterable[Revocation]) -> dict[str, str]:
    """The header that names them, if there are any. Those beyond the bounds are left to the stream, the last first."""
    entries: list[str] = []
    size = 0
    for revocation in revocations:
        entry = write(revocation)
        size += len(entry) + 2
        if len(entries) == MOST_ENTRIES or size > MOST_BYTES:
            break
        entries.append(entry)
    return {HEADER: ", ".join(entries)} if entries else {}


def write(revocation: Revocation) -> str:
    """One entry."""
    name = "sid" if revocation.kind == "session" else "sub"
    value = re.sub(r'(["\\])', r"\\\1", revocation.value)
    entry = f'{revocation.kind};until={revocation.until};{name}="{value}"'
    return f"{entry};cv={revocation.credentials_version}" if revocation.kind == "subject" else entry


def read(values: Iterable[bytes]) -> list[Revocation]:
    """The entries of all the header's lines; TooLarge, or Malformed. Kinds and parameters that are not known are passed
    over: new ones may come. A response names no key: those end by the stream alone."""
    text = b", ".join(values).decode("latin-1")
    if len(text) > MOST_BYTES:
        raise TooLarge(f"more than {MOST_BYTES} bytes")
    found: list[Revocation] = []
    at = entries = 0
    while True:
        entries += 1
        if entries > MOST_ENTRIES:
            raise TooLarge(f"more than {MOST_ENTRIES} entries")
        kind = _KIND.match(text, at)
        if kind is None:
            raise Malformed("an entry does not begin with its kind")
        at = kind.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(text, at)) is not None:
            name, number, string = parameter.groups()
            if name in parameters:
                raise Malformed("a parameter is given twice")
            parameters[name] = number if string is None else _ESCAPED.sub(r"\1", string)
            at = parameter.end()
        if (revocation := _revocation(kind.group(), parameters)) is not None:
            found.append(revocation)
        if at == len(text):
            return found
        comma = _NEXT.match(text, at)
        if comma is None:
            raise Malformed("something stands behind an entry")
        at = comma.end()


def _revocation(kind: str, parameters: dict[str, str]) -> Revocation | None:
    try:
        match kind:
            case "session":
                return Revocation("session", _id(parameters["sid"]), int(parameters["until"]))
            case "subject":
                version = int(parameters["cv"])
                return Revocation("subject", _id(parameters["sub"]), int(parameters["until"]), version)
    except (KeyError, ValueError):
        raise Malformed(f"a {kind} lacks a parameter, or one of them is not what it should be") from None
    return None


def _id(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_ID:
        raise ValueError("an id has 1 to 255 characters")
    return text
