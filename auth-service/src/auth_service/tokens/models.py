"""What the token endpoint hands out."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grant:
    """A token response before it is JSON (RFC 6749 section 5.1)."""

    access_token: str
    expires_in: int
    scope: str
    refresh_token: str | None = None
    device: str | None = None  # what makes this device known at the next sign-in
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a person typed, and from which device."""

    email: str
    password: str
    device: str | None
