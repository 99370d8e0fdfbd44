"""Headers, addresses and framing that lie: who somebody is, and where a request ends, is decided by us alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatehouse_e2e.api import Api, Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System
from gatehouse_e2e.wire import BadAnswer, RawClient

IDENTITY = (
    "X-User-Id", "X-User", "X-User-Roles", "X-User-Email", "X-Forwarded-User", "X-Remote-User", "Remote-User",
    "X-Auth-Request-User", "X-Authenticated-User", "X-Roles", "X-Scopes", "X-Subject", "X-Client-Id",
)  # fmt: skip
ADDRESS = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP")

SMUGGLED = b"GET /v1/users/me HTTP/1.1\r\nHost: smuggled\r\n\r\n"
FRAMES = {
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 0\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a hexadecimal length": b"Content-Length: 0x0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab before the value's end": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"X-One: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare carriage return": b"X-One: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a null": b"X-One: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a chunk size that is none": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a chunk longer than told": b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
    "two hosts": b"Host: elsewhere\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("frame", FRAMES, ids=lambda name: name.replace(" ", "-"))
def test_a_request_whose_end_is_in_doubt_is_refused_and_nothing_behind_it_is_read(
    frame: str, raw: Callable[[], RawClient]
) -> None:
    with raw() as wire:
        head = f"POST /auth/token HTTP/1.1\r\nHost: {wire.target.authority}\r\n".encode()
        answer = wire.ask(head + FRAMES[frame] + SMUGGLED, "POST")
        assert answer.status in (400, 501), (frame, answer)
        try:
            second = wire.answer()
        except (BadAnswer, ConnectionError):
            return
        pytest.fail(f"{frame}: what stood behind the refused request was answered: {second}")


def test_a_good_request_behind_a_good_one_is_answered_as_itself(
    raw: Callable[[], RawClient], people: People, person: Person
) -> None:
    """The other half of the sample: strictness does not cost pipelining clients their answers, nor mix them up."""
    other = people.signed_in()
    with raw() as wire:
        for one in (person, other) * 5:
            head = f"GET /v1/users/me HTTP/1.1\r\nHost: {wire.target.authority}\r\n"
            wire.send(f"{head}Authorization: Bearer {one.tokens.access_token}\r\n\r\n".encode())
        answers = [wire.answer() for _ in range(10)]
    assert [answer.json()["id"] for answer in answers] == [person.id, other.id] * 5


def test_headers_that_claim_an_identity_reach_no_service(
    parts: Compose, people: People, person: Person
) -> None:
    headers = dict.fromkeys(IDENTITY, "00000000-0000-7000-8000-000000000001") | person.tokens.bearer
    seen = people.api(person).http.get("/echo-signed-in/x", headers=headers).json()
    arrived = {name for name, _ in seen["headers"]}
    assert not arrived & {name.lower() for name in IDENTITY}


def test_headers_that_claim_an_identity_make_nobody_somebody(
    people: People, person: Person, api: Api
) -> None:
    claims = dict.fromkeys(IDENTITY, person.id)
    assert api.http.get("/v1/users/me", headers=claims).status_code == 401
    admin = dict.fromkeys(IDENTITY, "admin") | person.tokens.bearer
    assert people.api(person).http.get("/v1/users", headers=admin).status_code == 403


def test_hop_by_hop_headers_stay_on_their_hop(parts: Compose, people: People, person: Person) -> None:
    headers = person.tokens.bearer | {
        "Connection": "keep-alive, X-Drop-Me",
        "X-Drop-Me": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic YTpi",
    }
    seen = people.api(person).http.get("/echo-signed-in/x", headers=headers).json()
    arrived = {name for name, _ in seen["headers"]}
    assert not arrived & {"x-drop-me", "keep-alive", "proxy-authorization"}
    assert "authorization" in arrived


def test_a_caller_cannot_have_its_own_token_dropped_on_the_way(people: People, person: Person) -> None:
    for headers in ({"Connection": "Authorization"}, {"X_User_Id": person.id}):
        answer = people.api(person).http.get("/v1/users/me", headers=person.tokens.bearer | headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), headers


def test_an_address_is_believed_from_nobody_by_default(system: System, people: People) -> None:
    """Thirty failed sign-ins, each from another address as it says: limited as one."""
    if system.plain_url is None:
        pytest.skip(f"no second gateway with the default settings beside {system.url}")
    person = people.registered()
    wrong = people.stranger().password
    statuses = []
    with Api(system.plain_url) as api:
        for number in range(30):
            form = {"grant_type": "password", "username": people.stranger().email, "password": wrong}
            headers = dict.fromkeys(ADDRESS, f"203.0.113.{number}") | {"Forwarded": f"for=203.0.113.{number}"}
            statuses.append(api.http.post("/auth/token", data=form, headers=headers).status_code)
        assert 429 in statuses
    tokens = people.api(person).sign_in(person.email, person.password)
    with Api(system.plain_url) as api:
        seen = api.http.get("/auth/sessions", headers={**tokens.bearer, "X-Forwarded-For": "203.0.113.7"})
        assert "203.0.113" not in seen.text


def test_two_clients_behind_one_trusted_hop_have_a_limit_each(system: System, people: People) -> None:
    if not system.believes_addresses:
        pytest.skip(f"{system.url} does not believe our addresses")
    first, second = people.registered(), people.registered()
    form = {"grant_type": "password", "username": people.stranger().email, "password": "wrong wrong wrong"}
    for _ in range(40):
        limited = people.api(first).http.post("/auth/token", data=form).status_code == 429
        form["username"] = people.stranger().email
        if limited:
            break
    assert limited
    assert people.api(second).sign_in(second.email, second.password).access_token
