"""How MySQL changes a table under load: each statement says that nobody may have to wait, or the server refuses it."""

import re
from typing import Final

_AT_ONCE: Final = re.compile(r"ALTER TABLE \S+ (ADD|DROP|RENAME) COLUMN\b", re.IGNORECASE)
_INDEX: Final = re.compile(r"(CREATE (UNIQUE )?INDEX|DROP INDEX)\b", re.IGNORECASE)
_TABLE: Final = re.compile(r"ALTER TABLE\b", re.IGNORECASE)


def online(statement: str) -> str:
    """The statement with MySQL's ALGORITHM and LOCK.

    Error 1845 or 1846 then means that the table would be copied or locked. A migration that accepts this, for
    a small table, writes its statement with an ALGORITHM of its own, which is left alone.
    """
    statement = statement.strip().rstrip(";")
    if "ALGORITHM" in statement.upper():
        return statement
    if _AT_ONCE.match(statement):
        return f"{statement}, ALGORITHM=INSTANT"
    if _TABLE.match(statement):
        return f"{statement}, ALGORITHM=INPLACE, LOCK=NONE"
    if _INDEX.match(statement):
        return f"{statement} ALGORITHM=INPLACE LOCK=NONE"
    return statement
