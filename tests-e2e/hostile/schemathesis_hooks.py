"""What `st run` needs to know: who asks (with a token that is never old), whom it may ask about, and what came back."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import httpx
import schemathesis

URL = os.environ["E2E_URL"]
EMAIL, PASSWORD, ADDRESS = os.environ["E2E_EMAIL"], os.environ["E2E_PASSWORD"], os.environ["E2E_ADDRESS"]
PEOPLE: list[str] = json.loads(os.environ["E2E_PEOPLE"])
SEEN = Path(os.environ["E2E_SEEN"])
# Far less than a token lives: a run that outlives its token tests nothing but 401.
RENEWED_AFTER = 20.0


class Session:
    """The administrator's: started anew when it grows old or was ended by what the run itself did."""

    token = ""
    since = 0.0

    def current(self) -> str:
        if not self.token or time.monotonic() - self.since > RENEWED_AFTER:
            form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
            answer = httpx.post(
                f"{URL}/auth/token", data=form, headers={"X-Forwarded-For": ADDRESS}, timeout=15
            )
            answer.raise_for_status()
            self.token, self.since = answer.json()["access_token"], time.monotonic()
        return self.token


SESSION = Session()


@schemathesis.auth(refresh_interval=None)
class Administrator:
    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        return SESSION.current()

    def set(self, case: schemathesis.Case[Any], data: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Every request comes from an address of its own, so that no limit hides what is behind it; ids are real at times."""
    case.headers["X-Forwarded-For"] = (
        f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    )
    mode = case.meta.generation.mode if case.meta else None
    if mode is not None and mode.is_positive and "id" in case.path_parameters and random.random() < 0.5:
        case.path_parameters["id"] = random.choice(PEOPLE)


@schemathesis.hook
def after_call(context: Any, case: schemathesis.Case[Any], response: schemathesis.Response) -> None:
    if response.status_code == 401:
        SESSION.token = ""
    with SEEN.open("a") as lines:
        lines.write(f"{case.operation.method.upper()} {case.operation.path} {response.status_code}\n")
