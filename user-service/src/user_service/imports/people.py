"""What one row says about a person, in our own form or in that of Django's user model."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from user_service.passwords import django_hashes
from user_service.users.email import parse_email
from user_service.users.models import Status, User, new_user
from user_service.users.schemas import EmailAddress, Name


class BadRow(Exception):
    """Why a row cannot come in: names fields, never their values."""


class NotAPerson(Exception):
    """A row of dumpdata about something else."""


def _plausible(at: datetime) -> datetime:
    # Django without USE_TZ writes no zone.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not 1970 <= at.year < 2100:
        raise ValueError("not a time between 1970 and 2100")
    return at


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _storable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("not UTF-8")
    return text


Moment = Annotated[datetime, AfterValidator(_plausible)]
ExternalId = Annotated[
    str, BeforeValidator(_text), AfterValidator(_storable), Field(min_length=1, max_length=190)
]


class PersonRow(BaseModel):
    """One line of JSONL. Unknown members are refused, so that nothing is lost unnoticed."""

    model_config = ConfigDict(extra="forbid")

    id: ExternalId
    email: EmailAddress
    name: Name
    password: str | None = None
    active: bool = True
    created_at: Moment | None = None
    email_verified_at: Moment | None = None


class DjangoFields(BaseModel):
    """Of a user model's fields those that we keep; a team's own model may have more."""

    email: EmailAddress
    password: str
    username: str = ""
    first_name: str = ""
    last_name: str = ""
    is_active: bool = True
    date_joined: Moment | None = None


def person(value: Any, now: datetime) -> tuple[User, bool]:
    """The person, and whether they keep their password. Raises BadRow or NotAPerson."""
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    try:
        row = _from_django(value) if {"model", "fields"} <= value.keys() else PersonRow.model_validate(value)
    except ValidationError as invalid:
        raise BadRow("; ".join(_fault(error) for error in invalid.errors())) from invalid
    keeps = row.password is not None and django_hashes.supported(row.password) and len(row.password) <= 255
    made = new_user(parse_email(row.email), row.name, row.password if keeps else None, row.created_at or now)
    return replace(
        made,
        external_id=row.id,
        email_verified_at=row.email_verified_at,
        status=Status.ACTIVE if row.active else Status.DISABLED,
        disabled_at=None if row.active else now,
        updated_at=now,
    ), keeps


def _from_django(value: dict[str, Any]) -> PersonRow:
    fields = value["fields"]
    if not isinstance(fields, dict) or not {"password", "email"} <= fields.keys():
        raise NotAPerson
    found = DjangoFields.model_validate(fields)
    full_name = f"{found.first_name} {found.last_name}".strip()
    return PersonRow.model_validate(
        {
            "id": value.get("pk"),
            "email": found.email,
            "name": full_name or found.username or found.email.partition("@")[0],
            "password": found.password,
            "active": found.is_active,
            "created_at": found.date_joined,
        }
    )


def _fault(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "a member that is not known"
    where = ".".join(str(part) for part in error["loc"]) or "row"
    # Our own validators name no value; pydantic's messages may.
    why = error["ctx"]["error"] if error["type"] == "value_error" else error["type"].replace("_", " ")
    return f"{where}: {why}"
