"""The commonest mistakes with curl, fetch, requests and httpx, and the words by which a beginner finds the next step."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gatehouse_e2e.people import People
from gatehouse_e2e.wire import RawClient, Target

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NEW = {"email": "new@example.com", "name": "New", "password": "correct horse battery staple"}


@dataclass(frozen=True)
class Mistake:
    """A request, with `TOKEN`, `ETAG` and `ID` in it for those of somebody signed in, and what is told of it."""

    method: str
    path: str
    status: int
    code: str
    told: tuple[str, ...]  # words of the answer
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None


BEARER = {"Authorization": "Bearer TOKEN"}
MISTAKES = {
    "curl -d sends a form where JSON is read": Mistake(
        *("POST", "/v1/users", 415, "unsupported_media_type", ("Content-Type: application/json",)),
        headers=FORM,
        body=json.dumps(NEW),
    ),
    "fetch with a string body says text/plain": Mistake(
        *("POST", "/v1/users", 415, "unsupported_media_type", ("Content-Type: application/json",)),
        headers={"Content-Type": "text/plain;charset=UTF-8"},
        body=json.dumps(NEW),
    ),
    "no content type": Mistake(
        *("POST", "/v1/users", 415, "unsupported_media_type", ("Content-Type: application/json",)),
        body=json.dumps(NEW),
    ),
    "a multipart form": Mistake(
        *("POST", "/v1/users", 415, "unsupported_media_type", ("Content-Type: application/json",)),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
        body='--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na@b.c\r\n--x--\r\n',
    ),
    "a Python dict instead of JSON": Mistake(
        *("POST", "/v1/users", 400, "invalid_json", ("double quotes", "position 1")),
        headers=JSON,
        body=str(NEW),
    ),
    "JSON that is cut off": Mistake(
        *("POST", "/v1/users", 400, "invalid_json", ("position 9",)), headers=JSON, body='{"email":'
    ),
    "JSON inside a JSON string": Mistake(
        *("POST", "/v1/users", 422, "invalid_request", ("body", "dictionary")),
        headers=JSON,
        body=json.dumps(json.dumps(NEW)),
    ),
    "no body": Mistake(*("POST", "/v1/users", 422, "invalid_request", ("body", "required")), headers=JSON),
    "a field that is missing": Mistake(
        *("POST", "/v1/users", 422, "invalid_request", ("password", "required")),
        headers=JSON,
        body=json.dumps({"email": "new@example.com", "name": "New"}),
    ),
    "username= where email is read": Mistake(
        *("POST", "/v1/users", 422, "invalid_request", ("email", "username", "no such field")),
        headers=JSON,
        body=json.dumps({"username": "new@example.com", "name": "New", "password": NEW["password"]}),
    ),
    "a field that nobody knows": Mistake(
        *("POST", "/v1/users", 422, "invalid_request", ("admin", "no such field")),
        headers=JSON,
        body=json.dumps(NEW | {"admin": True}),
    ),
    "JSON where a form is read": Mistake(
        *("POST", "/auth/token", 400, "invalid_request", ("application/x-www-form-urlencoded",)),
        headers=JSON,
        body='{"grant_type":"password"}',
    ),
    "email= where username is read": Mistake(
        *("POST", "/auth/token", 400, "invalid_request", ("username is missing",)),
        headers=FORM,
        body="grant_type=password&email=a@example.com&password=x",
    ),
    "no grant_type": Mistake(
        *("POST", "/auth/token", 400, "invalid_request", ("grant_type is missing",)),
        headers=FORM,
        body="username=a@example.com&password=x",
    ),
    "a grant that nobody knows": Mistake(
        *("POST", "/auth/token", 400, "unsupported_grant_type", ("grant type",)),
        headers=FORM,
        body="grant_type=passwd&username=a@example.com&password=x",
    ),
    "client credentials without client_id": Mistake(
        *("POST", "/auth/token", 400, "unauthorized_client", ("client",)),
        headers=FORM,
        body="grant_type=client_credentials",
    ),
    "no token": Mistake(
        *("GET", "/v1/users/me", 401, "token_required", ("Authorization: Bearer", "/auth/token"))
    ),
    "a token without Bearer in front": Mistake(
        *("GET", "/v1/users/me", 401, "token_required", ("Authorization: Bearer",)),
        headers={"Authorization": "TOKEN"},
    ),
    "Token instead of Bearer": Mistake(
        *("GET", "/v1/users/me", 401, "token_required", ("Authorization: Bearer",)),
        headers={"Authorization": "Token TOKEN"},
    ),
    "curl -u": Mistake(
        *("GET", "/v1/users/me", 401, "token_required", ("Authorization: Bearer",)),
        headers={"Authorization": "Basic YWRhOnNlY3JldA=="},
    ),
    "quotes around the token": Mistake(
        *("GET", "/v1/users/me", 401, "token_malformed", ("quotes",)),
        headers={"Authorization": 'Bearer "TOKEN"'},
    ),
    "the word undefined as a token": Mistake(
        *("GET", "/v1/users/me", 401, "token_malformed", ("malformed",)),
        headers={"Authorization": "Bearer undefined"},
    ),
    "a token in the query": Mistake(
        *("GET", "/v1/users/me?access_token=TOKEN", 400, "invalid_request", ("query",))
    ),
    "a header with an underscore": Mistake(
        *("GET", "/v1/users/me", 400, "bad_request", ("underscore",)),
        headers={"X_Authorization": "Bearer TOKEN"},
    ),
    "a slash at the end": Mistake(*("GET", "/v1/users/", 404, "no_route", ("`/v1/users`", "slash"))),
    "a path that is not there": Mistake(*("GET", "/users/me", 404, "no_route", ("/openapi.json", "/docs"))),
    "two slashes where URL and path meet": Mistake(
        *("GET", "//v1/users/me", 400, "ambiguous_path", ("empty segment",))
    ),
    "the wrong method": Mistake(*("PUT", "/v1/users/me", 405, "method_not_allowed", ("`Allow`",))),
    "GET on the token endpoint": Mistake(*("GET", "/auth/token", 405, "method_not_allowed", ("`Allow`",))),
    "an id that is none": Mistake(
        *("GET", "/v1/users/17", 422, "invalid_request", ("id", "UUID")), headers=BEARER
    ),
    "a change without If-Match": Mistake(
        *("PATCH", "/v1/users/me", 428, "if_match_required", ("If-Match", "ETag")),
        headers=BEARER | JSON,
        body='{"name":"Other"}',
    ),
    "a weak ETag": Mistake(
        *("PATCH", "/v1/users/me", 412, "weak_etag", ("If-Match",)),
        headers=BEARER | JSON | {"If-Match": "W/ETAG"},
        body='{"name":"Other"}',
    ),
    "an old ETag": Mistake(
        *("PATCH", "/v1/users/me", 412, "changed_meanwhile", ("Read it again",)),
        headers=BEARER | JSON | {"If-Match": '"999"'},
        body='{"name":"Other"}',
    ),
    "a body that is too large": Mistake(
        *("POST", "/v1/users", 413, "body_too_large", ("16384 bytes",)),
        headers=JSON,
        body=json.dumps(NEW | {"name": "x" * 20_000}),
    ),
    "a file that is no picture": Mistake(
        *("PUT", "/v1/users/me/avatar", 415, "avatar_unsupported", ("JPEG, PNG, WebP or GIF",)),
        headers=BEARER | {"Content-Type": "image/png"},
        body="not a picture",
    ),
    "somebody else's data": Mistake(
        *("GET", "/v1/users/00000000-0000-7000-8000-000000000000", 403, "not_allowed", ("your own",)),
        headers=BEARER,
    ),
    "an administrator's list": Mistake(
        *("GET", "/v1/users", 403, "insufficient_role", ("admin",)), headers=BEARER
    ),
    "the API document as a page": Mistake(
        *("GET", "/openapi.json", 406, "not_acceptable", ("application/json",)),
        headers={"Accept": "text/html"},
    ),
}
# Only an administrator gets so far.
OF_ADMINISTRATORS = {
    "a query parameter that nobody knows": Mistake(
        *("GET", "/v1/users?nickname=17", 422, "invalid_request", ("nickname", "no such field")),
        headers=BEARER,
    ),
    "a cursor that was made up": Mistake(
        *("GET", "/v1/users?cursor=2", 400, "cursor_invalid", ("`next`",)), headers=BEARER
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_beginner_is_told_what_to_do(mistake: Mistake, people: People) -> None:
    person = people.signed_in()
    with people.api(person) as api:
        etag = api.me(person.tokens).headers["ETag"]
        check(api.http, mistake, {"TOKEN": person.tokens.access_token, "ETAG": etag})


@pytest.mark.parametrize("mistake", OF_ADMINISTRATORS.values(), ids=OF_ADMINISTRATORS.keys())
def test_a_beginner_among_the_administrators_is_told_what_to_do(
    mistake: Mistake, people: People, request: pytest.FixtureRequest
) -> None:
    person = people.registered()
    people.promote(request.getfixturevalue("admin"), person)
    people.sign_in(person)
    with people.api(person) as api:
        check(api.http, mistake, {"TOKEN": person.tokens.access_token})


def check(http: httpx.Client, mistake: Mistake, values: dict[str, str]) -> None:
    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    url = str(http.base_url).rstrip("/") + filled(mistake.path)  # as it is written, slashes and all
    headers = {name: filled(value) for name, value in mistake.headers.items()}
    answer = http.request(mistake.method, url, headers=headers, content=mistake.body)
    told(answer.status_code, answer.json(), mistake)


def told(status: int, problem: dict[str, Any], mistake: Mistake) -> None:
    assert (status, problem["code"]) == (mistake.status, mistake.code), problem
    words = json.dumps({name: value for name, value in problem.items() if name != "code"}, ensure_ascii=False)
    for word in mistake.told:
        assert word.lower() in words.lower(), words
    if "detail" in problem:
        assert problem["detail"] != problem["title"]


def test_a_request_for_no_host_is_told_so(people: People) -> None:
    with RawClient(people.url) as raw:
        answer = raw.ask(b"GET /v1/users/me HTTP/1.1\r\nHost: http://localhost/\r\n\r\n")
    told(answer.status, answer.json(), Mistake("GET", "/v1/users/me", 400, "bad_request", ("Host",)))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_s_own_habits_are_told_apart(people: People) -> None:
    """-d without a header is a form; -X GET with -d is a body on a route that reads none."""

    def curl(*arguments: str) -> tuple[int, dict[str, Any]]:
        command = ["curl", "-s", "-w", "\n%{http_code}", *arguments]
        body, _, status = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.rpartition("\n")
        return int(status), json.loads(body)

    target = f"http{'s' if Target.of(people.url).tls else ''}://{Target.of(people.url).authority}"
    form = curl(f"{target}/v1/users", "-d", json.dumps(NEW))
    told(*form, MISTAKES["curl -d sends a form where JSON is read"])
    body_with_get = curl("-X", "GET", f"{target}/v1/users/me", "-d", "{}")
    told(*body_with_get, MISTAKES["no token"])
