"""What is sent when asking for a mail, and when following a link."""

from typing import Annotated

from pydantic import BaseModel, Field

from user_service.users.schemas import EmailAddress, Name, Password, Strict

Token = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="What follows `#token=` in the mailed link.",
        examples=["Y51mCkqBtBjjQSdVZbIoHuVH9JVtRqagxMtm6aiZ3TE"],
        json_schema_extra={"format": "password"},
    ),
]


class ForAddress(Strict):
    email: EmailAddress


class AddressWanted(Strict):
    email: EmailAddress
    password: Password


class Registration(Strict):
    """Without a password: it is chosen by whoever reads the mail."""

    email: EmailAddress
    name: Name


class FollowedLink(Strict):
    token: Token


class FollowedQuestion(Strict):
    # Any text, as where a password is checked.
    email: Annotated[str, Field(max_length=1024)]
    token: Annotated[str, Field(max_length=200)] | None = None


class LinkStatus(BaseModel):
    link: str | None


class NewPassword(Strict):
    token: Token
    password: Password


class Accepted(Strict):
    """The same for every address: whether there is an account is nobody's business."""

    message: str = "If this can be done, a mail is on its way."
