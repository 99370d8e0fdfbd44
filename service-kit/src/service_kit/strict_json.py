"""JSON that every reader reads alike: RFC 8259 as RFC 7493 (I-JSON) narrows it."""

import json
import math
from typing import Any, Final, NoReturn

NO_POSITION: Final = -1
# Beyond it a reader that keeps numbers as doubles has another number (RFC 7493, section 2.2).
_LARGEST_INTEGER: Final = 2**53 - 1
_MOST_DIGITS: Final = len(str(-_LARGEST_INTEGER))


def decode(content: bytes) -> Any:
    """The value; JSONDecodeError, without input, for no JSON and where two readers could disagree."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise json.JSONDecodeError("The body is not UTF-8", "", fault.start) from None
    try:
        value = _decoder.decode(text)
    except RecursionError:
        _refuse("The JSON is nested too deeply")
    # Nothing but an escape makes half of a character.
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            _refuse("Half of a surrogate pair stands alone")
    return value


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object_pairs_hook."""
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("A member is repeated")
    return members


def refuse_constant(_: str) -> NoReturn:
    """A parse_constant."""
    _refuse("NaN and Infinity are not JSON")


def _integer(digits: str) -> int:
    # By length first: to read thousands of digits takes the square of their number.
    if len(digits) > _MOST_DIGITS or abs(number := int(digits)) > _LARGEST_INTEGER:
        _refuse("An integer is beyond 2^53")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _refuse("A number is too large")
    return number


def _refuse(message: str) -> NoReturn:
    raise json.JSONDecodeError(message, "", NO_POSITION)


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=unique_members, parse_int=_integer, parse_float=_finite, parse_constant=refuse_constant
)
