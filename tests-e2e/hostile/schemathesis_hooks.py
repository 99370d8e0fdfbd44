"""What `st run` needs to know: who asks (with tokens that are never old), what only they can know, and what came back."""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import schemathesis

from gatehouse_e2e.pictures import png

URL = os.environ["E2E_URL"]
PEOPLE: list[str] = json.loads(os.environ["E2E_PEOPLE"])
SEEN = Path(os.environ["E2E_SEEN"])
# Hypothesis seeds the common one, and every test would repeat the last one's choices.
CHANCE = random.SystemRandom()
# A token is renewed at this share of its life: a run that outlives its token tests nothing but 401.
RENEWED_AT = 0.5

Case = schemathesis.Case[Any]


def some_address() -> str:
    """Every request comes from an address of its own, so that no limit hides what is behind it."""
    return ".".join(["10", *(str(CHANCE.randrange(1, 255)) for _ in range(3))])


class Caller:
    """Somebody whose token is never old, and who signs in anew when what the run itself did ended the session."""

    def __init__(self, id: str, email: str, password: str) -> None:
        self.id, self.email, self.password = id, email, password
        self.token = self._renewal = ""
        self._good_until = 0.0
        self._http = httpx.Client(base_url=URL, timeout=15)  # its cookie makes this a known device

    def current(self) -> str:
        if not self.token or time.monotonic() > self._good_until:
            self._renew()
        return self.token

    def _renew(self) -> None:
        sign_in = {"grant_type": "password", "username": self.email, "password": self.password}
        answer = self.ask(
            "POST", "/auth/token", data={"grant_type": "refresh_token", "refresh_token": self._renewal}
        )
        patience = time.monotonic() + 30
        while not answer.is_success:
            if answer.status_code not in (400, 429, 502, 503, 504) or time.monotonic() > patience:
                answer.raise_for_status()
            refresh_refused = answer.status_code == 400
            time.sleep(float(answer.headers.get("retry-after", "0" if refresh_refused else "1")))
            answer = self.ask("POST", "/auth/token", data=sign_in)
        tokens = answer.json()
        self.token, self._renewal = tokens["access_token"], tokens["refresh_token"]
        self._good_until = time.monotonic() + tokens["expires_in"] * RENEWED_AT

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"X-Forwarded-For": some_address()} | more.pop("headers", {})
        if path != "/auth/token":
            headers["Authorization"] = f"Bearer {self.current()}"
        answer = self._http.request(method, path, headers=headers, **more)
        if answer.status_code != 401 or path == "/auth/token":
            return answer
        self.token = ""  # what the run did ended the session
        return self._http.request(
            method, path, headers=headers | {"Authorization": f"Bearer {self.current()}"}, **more
        )


CALLERS = [Caller(**one) for one in json.loads(os.environ["E2E_CALLERS"])]
# Who asks must not be disabled by what they ask, nor who is needed after the run.
SPARED = {*(one.id for one in CALLERS), *json.loads(os.environ["E2E_SPARED"])}
if CALLERS:

    @schemathesis.auth(refresh_interval=None)
    class AnyOfThem:
        def get(self, case: Case, context: schemathesis.AuthContext) -> str:
            return CHANCE.choice(CALLERS).current()

        def set(self, case: Case, data: str, context: schemathesis.AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"


# What a right request needs and no schema can say.


def a_person(case: Case, caller: Caller) -> None:
    case.path_parameters["id"] = CHANCE.choice([caller.id, *PEOPLE])


def somebody_with_a_picture(case: Case, caller: Caller) -> None:
    case.path_parameters["id"] = caller.id
    caller.ask("PUT", "/v1/users/me/avatar", content=png(8), headers={"Content-Type": "image/png"})


def somebody_else(case: Case, caller: Caller) -> None:
    case.path_parameters["id"] = CHANCE.choice(PEOPLE)


def somebody_deleted(case: Case, caller: Caller) -> None:
    new = {"email": f"{secrets.token_hex(8)}@people.example", "name": "Deleted", "password": caller.password}
    made = caller.ask("POST", "/v1/users", json=new).raise_for_status()
    case.path_parameters["id"] = made.json()["id"]
    caller.ask("DELETE", f"/v1/users/{case.path_parameters['id']}")


def a_version(case: Case, caller: Caller) -> None:
    """The ETag of what is to be changed, as whoever has just read it knows."""
    person = case.path_parameters.get("id", "me")
    case.headers["if-match"] = caller.ask("GET", f"/v1/users/{person}").headers.get("etag", '"0"')


def a_password(case: Case, caller: Caller) -> None:
    case.body = {"current_password": caller.password, "new_password": caller.password}


def an_address(case: Case, caller: Caller) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    case.body = body | {"email": f"{secrets.token_hex(8)}@people.example", "password": caller.password}


def a_key(case: Case, caller: Caller) -> None:
    case.headers["Idempotency-Key"] = secrets.token_hex(8)


def the_first_page(case: Case, caller: Caller) -> None:
    case.query = {}  # a cursor is of use only to whom it was given


def a_sign_in(case: Case, caller: Caller) -> None:
    case.body = {"grant_type": "password", "username": caller.email, "password": caller.password}


def a_token(case: Case, caller: Caller) -> None:
    case.body = {"token": caller.current()}


def a_session(case: Case, caller: Caller) -> None:
    listed = caller.ask("GET", "/auth/sessions").raise_for_status()
    case.path_parameters["session_id"] = CHANCE.choice(listed.json()["items"])["id"]


ONLY_THEY_KNOW: dict[str, tuple[Callable[[Case, Caller], None], ...]] = {
    "POST /auth/token": (a_sign_in,),
    "POST /auth/revoke": (a_token,),
    "DELETE /auth/sessions/{session_id}": (a_session,),
    "POST /v1/users": (an_address, a_key),
    "PATCH /v1/users/me": (a_version,),
    "POST /v1/users/me/password": (a_password,),
    "POST /v1/users/me/email": (an_address,),
    "GET /v1/users/{id}": (a_person,),
    "GET /v1/users/{id}/avatar": (somebody_with_a_picture,),
    "GET /v1/users": (the_first_page,),
    "GET /v1/users/{id}/audit": (a_person, the_first_page),
    "PATCH /v1/users/{id}": (a_person, a_version),
    "PUT /v1/users/{id}/roles": (somebody_else, a_version),
    "DELETE /v1/users/{id}": (somebody_else,),
    "POST /v1/users/{id}/disable": (somebody_else,),
    "POST /v1/users/{id}/enable": (somebody_else,),
    "POST /v1/users/{id}/restore": (somebody_deleted,),
    "POST /v1/users/{id}/erase": (somebody_deleted,),
}
# Operations that have succeeded: from then on they are also asked without what only their callers know.
SERVED = set[str]()
ENDS_SESSIONS = {
    "POST /auth/revoke",
    "POST /v1/users/me/password",
    "DELETE /auth/sessions",
    "DELETE /auth/sessions/{session_id}",
}


@schemathesis.hook
def before_call(context: Any, case: Case, kwargs: dict[str, Any]) -> None:
    case.headers["X-Forwarded-For"] = some_address()
    if case.method != "GET" and str(case.path_parameters.get("id")) in SPARED:
        case.path_parameters["id"] = CHANCE.choice(PEOPLE)
    meta = case.meta
    # A sequence brings what it knows along, and would take another id for its own.
    if meta is None or meta.phase.name.name == "STATEFUL" or not meta.generation.mode.is_positive:
        return
    if case.operation.label in SERVED and CHANCE.random() < 0.4:
        return
    caller = whose(case.headers.get("Authorization", ""))
    if caller is not None and case.method == case.operation.method.upper():
        with suppress(httpx.HTTPStatusError):  # a limit, or a part that is busy: it is asked as generated
            for tell in ONLY_THEY_KNOW.get(f"{case.method} {case.operation.path}", ()):
                tell(case, caller)


def whose(authorization: object) -> Caller | None:
    return next((one for one in CALLERS if one.token and authorization == f"Bearer {one.token}"), None)


@schemathesis.hook
def after_call(context: Any, case: Case, response: schemathesis.Response) -> None:
    sent = response.request
    caller = whose(sent.headers.get("Authorization", ""))
    ends = response.status_code < 300 and f"{sent.method} {case.operation.path}" in ENDS_SESSIONS
    # OPTIONS is answered at every path.
    if response.status_code < 300 and sent.method == case.operation.method.upper():
        SERVED.add(case.operation.label)
    if caller is not None and (ends or response.status_code == 401):
        caller.token = ""
    with SEEN.open("a") as lines:
        told = {
            "method": sent.method,
            "path": case.operation.path,
            "status": response.status_code,
            "ours": bool(caller),
        }
        lines.write(json.dumps(told) + "\n")
