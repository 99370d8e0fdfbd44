"""The typed client: what a consumer can do through the gateway, one method each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

DEADLINE = httpx.Timeout(15, connect=5)
# Made once: it costs more than a request, and a run makes a client for each of a thousand people.
TRUST = httpx.create_ssl_context()
PATIENCE_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Tokens:
    access_token: str
    refresh_token: str
    expires_in: int
    scope: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


@dataclass(slots=True)
class Person:
    """Somebody with an account; `tokens` is set once signed in."""

    id: str
    email: str
    name: str
    password: str
    address: str
    tokens: Tokens = field(default_factory=lambda: Tokens("", "", 0, ""))


class Refused(Exception):
    """An answer that is no success: its status, stable code, request id and whole body."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        try:
            self.body: dict[str, Any] = response.json()
        except ValueError:
            self.body = {}
        self.code: str | None = self.body.get("code")
        self.error: str | None = self.body.get("error")
        self.request_id: str | None = self.body.get("request_id") or response.headers.get("x-request-id")
        super().__init__(
            f"{response.request.method} {response.request.url.path}: {self.status} "
            f"{self.code or self.error or ''} {response.text[:300]!r}"
        )


def checked(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise Refused(response)
    return response


class InTurn(httpx.HTTPTransport):
    """Who is limited waits as long as told and asks again."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        patience = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = super().handle_request(request)
            wait = float(answer.headers.get("retry-after", "1"))
            if answer.status_code != 429 or time.monotonic() + wait > patience:
                return answer
            answer.close()
            time.sleep(wait)


class Api:
    """One consumer at one address, which is sent as X-Forwarded-For.

    Where that is not believed, all share the limits of the tester's own: `in_turn` waits for them.
    """

    def __init__(self, url: str, address: str | None = None, *, in_turn: bool = False) -> None:
        headers = {"X-Forwarded-For": address} if address else {}
        self.http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=DEADLINE,
            follow_redirects=False,
            verify=TRUST,
            transport=InTurn(verify=TRUST) if in_turn else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def register(self, email: str, name: str, password: str, key: str = "") -> dict[str, Any]:
        """With an Idempotency-Key an answer that was lost may be asked for again."""
        body = {"email": email, "name": name, "password": password}
        headers = {"Idempotency-Key": key} if key else {}
        return dict(checked(self.http.post("/v1/users", json=body, headers=headers)).json())

    def sign_in(self, email: str, password: str) -> Tokens:
        return self._token(grant_type="password", username=email, password=password)

    def refresh(self, refresh_token: str) -> Tokens:
        return self._token(grant_type="refresh_token", refresh_token=refresh_token)

    def sign_out(self, token: str) -> None:
        """Revokes; returns once the server acknowledged it as durable."""
        checked(self.http.post("/auth/revoke", data={"token": token}))

    def me(self, tokens: Tokens) -> httpx.Response:
        return checked(self.http.get("/v1/users/me", headers=tokens.bearer))

    def rename(self, tokens: Tokens, name: str, etag: str) -> httpx.Response:
        headers = {**tokens.bearer, "If-Match": etag}
        return checked(self.http.patch("/v1/users/me", headers=headers, json={"name": name}))

    def change_password(self, tokens: Tokens, current: str, new: str) -> None:
        body = {"current_password": current, "new_password": new}
        checked(self.http.post("/v1/users/me/password", headers=tokens.bearer, json=body))

    def sessions(self, tokens: Tokens) -> list[dict[str, Any]]:
        listed = checked(self.http.get("/auth/sessions", headers=tokens.bearer)).json()
        return list(listed["items"] if isinstance(listed, dict) else listed)

    def _token(self, **form: str) -> Tokens:
        body = checked(self.http.post("/auth/token", data=form)).json()
        return Tokens(body["access_token"], body["refresh_token"], body["expires_in"], body["scope"])
