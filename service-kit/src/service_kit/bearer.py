"""The Bearer scheme (RFC 6750): reading the Authorization header, writing the challenge."""

import re

# What a quoted string may hold without escapes, and a header without breaking in two.
_UNQUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def bearer_token(authorization: bytes) -> bytes | None:
    """What follows the scheme, whatever it is; None where the scheme is another or nothing follows."""
    scheme, _, token = authorization.strip(b" \t").partition(b" ")
    return token.lstrip(b" ") or None if scheme.lower() == b"bearer" else None


def challenge(
    error: str | None = None,
    description: str | None = None,
    scope: str | None = None,
    max_age: int | None = None,
) -> str:
    """A WWW-Authenticate value. Without an error it says only how to authenticate (section 3.1).

    `max_age` is RFC 9470's: the seconds since the sign-in that are still accepted.
    """
    age = None if max_age is None else str(max_age)
    members = {"error": error, "error_description": description, "scope": scope, "max_age": age}
    given = ", ".join(
        f'{name}="{_UNQUOTABLE.sub("?", value)}"' for name, value in members.items() if value is not None
    )
    return f"Bearer {given}" if given else "Bearer"
