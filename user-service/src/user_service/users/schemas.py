"""What clients send and get about people."""

import unicodedata
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from user_service.users.email import parse_email
from user_service.users.models import Status, User


def _address(text: str) -> str:
    return parse_email(text).address


def _visible(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("control characters are not accepted")
    return text


EmailAddress = Annotated[str, Field(max_length=320, examples=["ada@example.com"]), AfterValidator(_address)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_visible),
    Field(examples=["Ada Lovelace"]),
]
Password = Annotated[str, Field(max_length=1024, json_schema_extra={"format": "password"})]
Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Strict(BaseModel):
    """A request body in which an unknown field is an error: nobody sets roles or status in passing."""

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
    next: str | None = Field(description="The cursor of the next page; null on the last one.")


class ListQuery(Strict):
    """What an administrator's list can be narrowed to."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=2048)] = None
    status: Status | None = None
    role: Role | None = None
    created_from: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    email: Annotated[str, Field(max_length=320, description="The beginning of the address.")] = ""
    name: Annotated[str, Field(max_length=200, description="The beginning of the name.")] = ""


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
