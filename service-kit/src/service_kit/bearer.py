"""The Bearer scheme (RFC 6750): reading the Authorization header, writing the challenge."""

import re

_CREDENTIALS = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


def bearer_token(authorization: bytes) -> bytes | None:
    """The token of an Authorization value, or None if the value is of another scheme or malformed."""
    credentials = _CREDENTIALS.fullmatch(authorization.strip(b" \t"))
    return credentials and credentials[1]


def challenge(error: str | None = None, description: str | None = None, scope: str | None = None) -> str:
    """A WWW-Authenticate value. Without an error it says only how to authenticate (section 3.1)."""
    members = {"error": error, "error_description": description, "scope": scope}
    given = ", ".join(f'{name}="{value}"' for name, value in members.items() if value is not None)
    return f"Bearer {given}" if given else "Bearer"
