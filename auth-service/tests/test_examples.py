"""contract/examples are recordings of the running service, with what differs each time written as one fixed value.

`RECORD=1 uv run pytest tests/test_examples.py` writes them anew.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from conftest import Service
from jsonschema import Draft202012Validator
from people import People

from auth_service.contract import PATH

FOLDER = PATH.parent / "examples"
DOCUMENT: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
FORM = "application/x-www-form-urlencoded"

REQUEST_FIELDS = {"authorization", "content-type", "if-none-match", "x-device-token"}
ANSWER_FIELDS = {
    "cache-control", "content-type", "etag", "ratelimit", "ratelimit-policy", "retry-after", "set-cookie",
    "www-authenticate", "x-auth-client", "x-auth-roles", "x-auth-scope", "x-auth-session", "x-auth-subject",
    "x-device-token", "x-request-id",
}  # fmt: skip
# What is another value each time: a pattern of its text, and what stands for it.
VARIABLE = [
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "eyJhbGciOiJFUzI1NiIsImtpZCI6Ij….eyJpc3MiOiJodHRw….k3vXQ9…"),
    (
        r"[\w-]{16}\.[0-9a-f-]{36}\.\d+\.\d+\.[\w-]{43}",
        "Zk3v9QwT1b6XyLrA.019ab1d0-7c1e-7f30-9a55-2f6f1c0de001.1.1795590000.uG7dPc…",
    ),
    (r"[\w-]{22}\.(\d+)\.(\d+)\.[\w-]{43}", r"q1kM0VxXGmQ7c0oYJd8YTA.\1.\2.5mJ0nW…"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "019ab1d0-7c1e-7f30-9a55-2f6f1c0de001"),
    (r'^("\w+";r=\d+;t)=\d+$', r"\1=6"),
    (r"^Basic [\w+/]+=*$", "Basic cmVwb3J0czptUTRw…"),
    (r'"\b[0-9a-f]{32}"', '"5f0c7b0e4d5a4c0f9f2b6a1d8e3c7b90"'),
]
BY_NAME = {
    "client_secret": "mQ4p…",
    "iat": 1795590000, "exp": 1795590300, "auth_time": 1795590000, "jti": "b7Xw0kPqT2sVnL9e",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "request_id": "8c1f5b7e2d9a4f06b3c4d5e6f7a80912", "instance": "urn:request:8c1f5b7e2d9a4f06b3c4d5e6f7a80912",
    "x-request-id": "8c1f5b7e2d9a4f06b3c4d5e6f7a80912",
    "etag": '"5f0c7b0e4d5a4c0f9f2b6a1d8e3c7b90"', "if-none-match": '"5f0c7b0e4d5a4c0f9f2b6a1d8e3c7b90"',
    "created_at": "2026-11-25T07:00:00Z", "last_used_at": "2026-11-25T07:04:00Z",
    "expires_at": "2026-12-25T07:00:00Z",
}  # fmt: skip


# Several in one answer stay told apart.
SESSIONS = (
    "q1kM0VxXGmQ7c0oYJd8YTA",
    "Vb8tN2rWc5LzKp1eHsQ0Mg",
    "x7DfY3uGaTnE9iRjS4vZkw",
    "hM2oPq8wXyB5tLd0CzAr6Q",
)
KEYS = ("4b1d0c6f9e2a7d3858c1f0aa", "c07e5a913f6b2d84e1a9d3b6")


class Recorder:
    """Speaks with the service as clients without cookies do, and keeps what was said."""

    def __init__(self, service: Service) -> None:
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app),
            base_url="http://auth:8000",
            headers={"user-agent": "Example/1.0"},
        )
        self.heard: dict[str, dict[str, Any]] = {}
        self._stand_ins: dict[str, str] = {}

    async def ask(self, name: str, method: str, path: str, *, token: str = "", **how: Any) -> httpx.Response:
        headers = ({"authorization": f"Bearer {token}"} if token else {}) | how.pop("headers", {})
        response = await self._http.request(method, path, headers=headers, **how)
        self._http.cookies.clear()
        self.heard[name] = {
            "request": self._requested(response.request),
            "response": self._answered(response),
        }
        return response

    def _requested(self, request: httpx.Request) -> dict[str, Any]:
        path, question, query = request.url.raw_path.decode().partition("?")
        folder, _, last = path.rpartition("/")
        if folder == "/auth/sessions":
            path = f"{folder}/{self._fixed(last, 'id')}"
        said: dict[str, Any] = {"method": request.method, "path": f"{path}{question}{query}"}
        said["headers"] = self._shown(request.headers, REQUEST_FIELDS)
        if content := request.content.decode():
            said["body"] = self._fixed(dict(parse_qsl(content)))
        return said

    def _answered(self, response: httpx.Response) -> dict[str, Any]:
        said = {"status": response.status_code, "headers": self._shown(response.headers, ANSWER_FIELDS)}
        return said | ({"body": self._fixed(response.json())} if response.content else {})

    def _shown(self, headers: Mapping[str, str], names: set[str]) -> Any:
        return self._fixed({name: value for name, value in headers.items() if name in names})

    def _fixed(self, value: Any, name: str = "") -> Any:
        """The same with every value that differs from one run to the next replaced."""
        if name in BY_NAME:
            return BY_NAME[name]
        if name in ("id", "sid", "x-auth-session"):
            return self._one_of(SESSIONS, value)
        if name == "kid":
            return self._one_of(KEYS, value)
        if isinstance(value, dict):
            return {name: self._fixed(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._fixed(each) for each in value]
        if isinstance(value, str):
            for pattern, stands in VARIABLE:
                value = re.sub(pattern, stands, value)
        return value

    def _one_of(self, stand_ins: Sequence[str], value: str) -> str:
        taken = [each for each in self._stand_ins.values() if each in stand_ins]
        return self._stand_ins.setdefault(value, stand_ins[len(taken) % len(stand_ins)])


@pytest.fixture
async def recorded(service: Service, people: People) -> dict[str, dict[str, Any]]:
    """Ada signs in on two devices, renews, looks at her sessions and ends them; a client asks about her token."""
    secret = await service.parts.clients.register("reports", {"orders:read"}, {"orders"})
    client, at = ("reports", secret), Recorder(service)
    ada: dict[str, Any] = {
        "username": "ada@example.com",
        "password": People.PASSWORD,
        "grant_type": "password",
    }
    grant = (await at.ask("sign-in", "POST", "/auth/token", data=ada)).json()
    wrong = ada | {"password": "a wrong passphrase"}
    await at.ask("sign-in-refused", "POST", "/auth/token", data=wrong)
    refresh = {"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]}
    renewed = (await at.ask("refresh", "POST", "/auth/token", data=refresh)).json()
    own = {"grant_type": "client_credentials", "scope": "orders:read", "audience": "orders"}
    await at.ask("client-token", "POST", "/auth/token", data=own, auth=client)
    await at.ask("client-refused", "POST", "/auth/token", data=own, auth=("reports", "guessed"))
    token = renewed["access_token"]
    await at.ask("introspect", "POST", "/auth/introspect", data={"token": token}, auth=client)
    await at.ask("verify", "GET", "/auth/verify", token=token)
    await at.ask("verify-without-role", "GET", "/auth/verify?role=admin", token=token)
    await at.ask("verify-without-token", "GET", "/auth/verify")
    service.public.headers["user-agent"] = "Another/2.0"
    await service.sign_in()
    await at.ask("sessions", "GET", "/auth/sessions", token=token)
    await at.ask("sessions-end-others", "DELETE", "/auth/sessions?keep=current", token=token)
    await at.ask("session-unknown", "DELETE", f"/auth/sessions/{'x' * 22}", token=token)
    path = f"/auth/sessions/{service.session_of((await service.sign_in())['access_token'])}"
    await at.ask("session-end", "DELETE", path, token=token)
    await at.ask("sign-out", "POST", "/auth/revoke", data={"token": renewed["refresh_token"]})
    await at.ask("refresh-refused", "POST", "/auth/token", data=refresh)
    await service.until_refused(token, "session_revoked")
    await at.ask("introspect-ended", "POST", "/auth/introspect", data={"token": token}, auth=client)
    await at.ask("verify-refused", "GET", "/auth/verify", token=token)
    while (await at.ask("too-many-attempts", "POST", "/auth/token", data=wrong)).status_code != 429:
        pass
    keys = await at.ask("keys", "GET", "/.well-known/jwks.json")
    etag = {"if-none-match": keys.headers["etag"]}
    await at.ask("keys-unchanged", "GET", "/.well-known/jwks.json", headers=etag)
    await at.ask("metadata", "GET", "/.well-known/oauth-authorization-server")
    return at.heard


async def test_every_example_is_what_the_service_really_answers(recorded: dict[str, dict[str, Any]]) -> None:
    if os.environ.get("RECORD"):
        FOLDER.mkdir(exist_ok=True)
        for name, example in recorded.items():
            (FOLDER / f"{name}.json").write_text(
                json.dumps(example, indent=2, ensure_ascii=False) + "\n", "utf-8"
            )
    kept = {file.stem: json.loads(file.read_text("utf-8")) for file in FOLDER.glob("*.json")}
    assert kept == recorded


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_an_example_is_as_the_contract_says(file: Path) -> None:
    example = json.loads(file.read_text("utf-8"))
    request, response = example["request"], example["response"]
    operation = described(request)
    if "body" in request:
        validate(request["body"], operation["requestBody"]["content"][FORM]["schema"])
    says = operation["responses"].get(str(response["status"]), operation["responses"].get("default"))
    if "body" in response:
        media_type = response["headers"]["content-type"].partition(";")[0]
        validate(response["body"], says["content"][media_type].get("schema", {}))
    else:
        assert "content" not in says


def test_every_operation_has_an_example_that_succeeds() -> None:
    shown = set()
    for file in FOLDER.glob("*.json"):
        example = json.loads(file.read_text("utf-8"))
        if example["response"]["status"] < 300:
            shown.add(id(described(example["request"])))
    every = {id(each) for path in DOCUMENT["paths"].values() for each in path.values()}
    assert shown == every


def described(request: Mapping[str, Any]) -> dict[str, Any]:
    """The operation of the contract that a request is for."""
    path = urlsplit(request["path"]).path
    exact = DOCUMENT["paths"].get(path) or DOCUMENT["paths"]["/auth/sessions/{session_id}"]
    operation: dict[str, Any] = exact[request["method"].lower()]
    return operation


def validate(value: Any, schema: Mapping[str, Any]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)
