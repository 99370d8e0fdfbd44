"""What is sent and answered about credentials."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from user_service.users.schemas import CurrentState, Password, Strict


class Refusal(StrEnum):
    UNKNOWN = "unknown"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    DISABLED = "disabled"
    UNVERIFIED = "unverified"


class PasswordChange(Strict):
    current_password: Password
    new_password: Password


class Credentials(Strict):
    # Any text: what is no address is an unknown account, answered as slowly as one.
    email: Annotated[str, Field(max_length=1024)]
    password: Password


class Verified(BaseModel):
    verified: Literal[True] = True
    user: CurrentState


class NotVerified(BaseModel):
    verified: Literal[False] = False
    reason: Refusal
    wait: float = Field(
        description="Seconds to let pass before anybody learns of it; 0 unless `caller_waits`."
    )
