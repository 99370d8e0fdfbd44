"""What clients send and get about people."""

import unicodedata
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from user_service.pagination import NextCursor, PageQuery
from user_service.users.email import parse_email
from user_service.users.models import Status, User

# Whoever reads a list, a log or a mail must see a name as one piece of text, and nothing around it turned about.
BREAKS_LINES = ("Cc", "Zl", "Zp")
UNSEEN = ("Cf", "Zs", "Mn", "Me")
TURNS_TEXT = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def _address(text: str) -> str:
    return parse_email(text).address


def _visible(text: str) -> str:
    if any(unicodedata.category(character) in BREAKS_LINES or character in TURNS_TEXT for character in text):
        raise ValueError("Leave control characters out.")
    if all(unicodedata.category(character) in UNSEEN for character in text):
        raise ValueError("The text has no visible character.")
    return text


def _written_out(text: object) -> object:
    # Pydantic takes a number for seconds since 1970, or milliseconds if it is large; the document says date-time.
    if isinstance(text, str) and "-" not in text[1:]:
        raise ValueError("Send a date and time in the form of RFC 3339, such as 2026-01-31T12:00:00Z.")
    return text


EmailAddress = Annotated[
    str,
    Field(max_length=320, examples=["ada@example.com"], json_schema_extra={"format": "idn-email"}),
    AfterValidator(_address),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_visible),
    Field(examples=["Ada Lovelace"]),
]
Password = Annotated[
    str,
    Field(
        max_length=1024, examples=["correct horse battery staple"], json_schema_extra={"format": "password"}
    ),
]
Time = Annotated[AwareDatetime, BeforeValidator(_written_out)]
Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$"), Field(examples=["editor"])]


class Strict(BaseModel):
    """A request in which an unknown field is an error: nobody sets roles or status in passing."""

    model_config = ConfigDict(extra="forbid")


class NewUser(Strict):
    email: EmailAddress
    name: Name
    password: Password


class UserChanges(Strict):
    name: Name | None = None


class Roles(Strict):
    roles: Annotated[list[Role], Field(max_length=20)]


class UserOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01a22d6b-bb1e-723d-9806-ce32656b2f3a",
                    "email": "ada@example.com",
                    "email_verified": True,
                    "name": "Ada Lovelace",
                    "status": "active",
                    "roles": ["editor"],
                    "version": 2,
                    "external_id": None,
                    "created_at": "2026-11-30T17:06:04.702474Z",
                    "updated_at": "2026-11-30T17:21:40.118003Z",
                    "disabled_at": None,
                    "deleted_at": None,
                }
            ]
        }
    )

    id: UUID
    email: str
    email_verified: bool
    name: str
    status: Status
    roles: list[str]
    version: int
    external_id: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    disabled_at: AwareDatetime | None
    deleted_at: AwareDatetime | None

    @classmethod
    def of(cls, user: User) -> "UserOut":
        return cls(
            id=user.id,
            email=user.email,
            email_verified=user.email_verified_at is not None,
            name=user.name,
            status=user.status,
            roles=list(user.roles),
            version=user.version,
            external_id=user.external_id,
            created_at=user.created_at,
            updated_at=user.updated_at,
            disabled_at=user.disabled_at,
            deleted_at=user.deleted_at,
        )


class UserPage(BaseModel):
    items: list[UserOut]
    next: NextCursor


class ListQuery(PageQuery):
    """What an administrator's list can be narrowed to."""

    status: Status | None = None
    role: Role | None = None
    created_from: Time | None = None
    created_before: Time | None = None
    email: Annotated[str, Field(max_length=320, description="The beginning of the address.")] = ""
    name: Annotated[str, Field(max_length=200, description="The beginning of the name.")] = ""
    external_id: Annotated[
        str | None, Field(max_length=190, description="The id that an imported person had before, in full.")
    ] = None


class CurrentState(BaseModel):
    """A person as auth-service sees them."""

    id: UUID
    status: Status
    roles: list[str]
    credentials_version: int
    sessions_cv: int
    email_verified: bool

    @classmethod
    def of(cls, user: User) -> "CurrentState":
        return cls(
            id=user.id,
            status=user.status,
            roles=list(user.roles),
            credentials_version=user.credentials_version,
            sessions_cv=user.sessions_cv,
            email_verified=user.email_verified_at is not None,
        )
