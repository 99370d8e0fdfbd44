"""What one row says about a person, in our own form or in that of Django's user model."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from user_service.passwords import django_hashes
from user_service.users.email import parse_email
from user_service.users.models import Status, User, new_user
from user_service.users.schemas import EmailAddress, Name

UNUSABLE: Final = "!"  # how Django marks that there is no password


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
    """Of a user model's fields those that we keep. Teams' own models differ: any may be absent or null, or be more."""

    model_config = ConfigDict(extra="allow")

    email: str | None = None
    password: str | None = None
    username: str | None = None
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    is_active: bool = True
    date_joined: Moment | None = None

    def full_name(self) -> str:
        parts = [(part or "").strip() for part in (self.first_name, self.last_name)]
        return " ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Found:
    """The person in a row, what they will not have as the row had it, and the filled fields that nobody keeps."""

    user: User
    keeps_password: bool
    changed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


NAME_FROM: Final = (
    "username",
    "email",
)  # which may stand for a name that a row has not, if the operator says so


def person(value: Any, now: datetime, name_from: str | None = None) -> Found:
    """Raises BadRow or NotAPerson."""
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    try:
        if {"model", "fields"} <= value.keys():
            row, changed, left_out = _from_django(value, name_from)
        else:
            row, changed, left_out = PersonRow.model_validate(value), [], ()
    except ValidationError as invalid:
        raise BadRow("; ".join(_fault(error) for error in invalid.errors())) from invalid
    keeps = row.password is not None and django_hashes.supported(row.password) and len(row.password) <= 255
    if row.password and not keeps and not row.password.startswith(UNUSABLE):
        changed.append("password: not a hash that can be checked here; a new password must be set")
    made = new_user(parse_email(row.email), row.name, row.password if keeps else None, row.created_at or now)
    user = replace(
        made,
        external_id=row.id,
        email_verified_at=row.email_verified_at,
        status=Status.ACTIVE if row.active else Status.DISABLED,
        disabled_at=None if row.active else now,
        updated_at=now,
    )
    return Found(user, keeps, tuple(changed), left_out)


def _from_django(
    value: dict[str, Any], name_from: str | None
) -> tuple[PersonRow, list[str], tuple[str, ...]]:
    fields = value["fields"]
    if not isinstance(fields, dict) or "password" not in fields:
        raise NotAPerson
    found = DjangoFields.model_validate(fields)
    if not (found.email or "").strip():
        raise BadRow("email: the row has none, and people sign in with it")
    name, changed = _name(found, name_from)
    row = PersonRow.model_validate(
        {
            "id": value.get("pk"),
            "email": found.email,
            "name": name,
            "password": found.password,
            "active": found.is_active,
            "created_at": found.date_joined,
        }
    )
    left_out = [field for field, content in (found.model_extra or {}).items() if content]
    if found.username and found.username not in (found.email, name):
        left_out.append("username")
    return row, changed, tuple(left_out)


def _name(found: DjangoFields, name_from: str | None) -> tuple[str, list[str]]:
    """The name that the row has, or what the operator said may stand for it. None is made up."""
    name, full_name = (found.name or "").strip(), found.full_name()
    if name and full_name not in ("", name):
        return name, ["first_name, last_name: name is another, and is kept"]
    if name or full_name:
        return name or full_name, []
    if name_from == "username" and (found.username or "").strip():
        return str(found.username), ["name: the row has none, the username stands for it"]
    if name_from == "email":
        return str(found.email).partition("@")[0], ["name: the row has none, the address stands for it"]
    also = "nor a username" if name_from else "--name-from=username or --name-from=email would give one"
    raise BadRow(f"name: the row has none, {also}")


def _fault(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "a member that is not known"
    where = ".".join(str(part) for part in error["loc"]) or "row"
    if error["type"] == "string_too_long":
        return f"{where}: {len(error['input'].strip())} characters, and {error['ctx']['max_length']} fit"
    # Our own validators name no value; pydantic's messages may.
    why = error["ctx"]["error"] if error["type"] == "value_error" else error["type"].replace("_", " ")
    return f"{where}: {why}"
