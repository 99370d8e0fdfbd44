"""Headers, addresses and framing that lie: who somebody is, and where a request ends, is decided by us alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from gatehouse_e2e.api import Api, Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.mails import Mails
from gatehouse_e2e.people import People
from gatehouse_e2e.pictures import png
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

ASK_FRONT = """
import http.client, json
front = http.client.HTTPConnection("front", 8000, timeout=10)
front.request("GET", "/echo/x")
own = front.sock.getsockname()[0]
print(json.dumps({"own": own, "seen": json.load(front.getresponse())}))
"""


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


def test_what_a_client_writes_before_the_trusted_hop_is_not_believed(system: System, people: People) -> None:
    if not system.believes_addresses:
        pytest.skip(f"{system.url} does not believe our addresses")
    person = people.registered()
    form = {"grant_type": "password", "username": person.email, "password": person.password}
    # A public address: those of the suite's people are in private ranges, where a system may have its proxies.
    for said in ("203.0.113.9, 198.51.100.7", "203.0.113.9,198.51.100.7", "nonsense, , 198.51.100.7"):
        headers = {"X-Forwarded-For": said} | dict.fromkeys(ADDRESS[1:], "203.0.113.9")
        answer = people.api(person).http.post("/auth/token", data=form, headers=headers)
        assert answer.status_code == 200, answer.text
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        [current] = [
            one
            for one in people.api(person).http.get("/auth/sessions", headers=bearer).json()["items"]
            if one["current"]
        ]
        assert current["address"] == "198.51.100.0/24", said


def test_registration_is_limited_by_address_and_by_nothing_that_a_client_says(
    system: System, people: People
) -> None:
    """Twenty at once, then ten a minute."""
    url = system.plain_url or system.url
    hops = {} if system.plain_url else {"X-Forwarded-For": people.address()}
    if not (system.plain_url or system.believes_addresses):
        pytest.skip(f"{system.url} would limit everybody else at our address too")
    statuses = []
    for number in range(40):
        lies = dict.fromkeys(ADDRESS[1:], f"203.0.113.{number}") | {"User-Agent": f"browser {number}"}
        if system.plain_url:
            lies["X-Forwarded-For"] = f"203.0.113.{number}"
        # Refused by its schema: what is limited is asking, and no hash is computed for it.
        answer = httpx.post(f"{url}/v1/users", json={"name": "Nobody"}, headers=lies | hops)
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            break
    assert statuses[-1] == 429, statuses
    assert int(answer.headers["retry-after"]) >= 1
    assert set(statuses[:-1]) == {422}


def test_a_mailed_link_leads_to_us_whatever_host_the_request_named(mails: Mails, people: People) -> None:
    for lie in (
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {
            "Forwarded": "host=evil.example",
            "X-Original-URL": "//evil.example/",
            "Origin": "https://evil.example",
        },
    ):
        somebody = people.registered()
        asked = people.api(somebody).http.post(
            "/v1/users/password-reset", json={"email": somebody.email}, headers=lie
        )
        assert asked.status_code == 202, lie
        mail = mails.wait(somebody.email, "password")
        assert mail.link.startswith(f"{people.url}/v1/users/links/"), mail.link
        assert "evil.example" not in mail.text + mail.html


def test_a_link_does_only_what_it_was_mailed_for(mails: Mails, people: People, person: Person) -> None:
    http = people.api(person).http
    assert http.post("/v1/users/password-reset", json={"email": person.email}).status_code == 202
    token = mails.wait(person.email, "password").token
    body = {"token": token, "password": people.stranger().password}
    for kind in ("verify-address", "confirm-registration", "change-address", "undo-change"):
        sent = body if kind == "confirm-registration" else {"token": token}
        answer = http.post(f"/v1/users/links/{kind}", json=sent)
        assert (answer.status_code, answer.json()["code"]) == (404, "link_unknown"), kind
    assert http.post("/v1/users/links/reset-password", json=body).status_code == 204


def test_a_page_of_another_origin_reads_nothing(people: People, person: Person) -> None:
    """No route of ours names an origin: preflights are answered without a token, and permit nothing."""
    http = people.api(person).http
    for origin in ("https://evil.example", "null", f"{people.url}.evil.example"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        for answer in (
            http.options("/v1/users/me", headers=asked),
            http.get("/v1/users/me", headers={**person.tokens.bearer, "Origin": origin}),
            http.get("/v1/users/me", headers={"Origin": origin}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")], origin
            assert answer.status_code in (200, 204, 401)


def test_a_picture_that_is_a_bomb_or_a_page_is_refused_at_once(people: People, person: Person) -> None:
    bomb = png(30_000, rows=bytes(1_000_000))
    for picture, status in ((bomb, 422), (b"<html><script>alert(1)</script>", 415), (b"", 415)):
        headers = {**person.tokens.bearer, "Content-Type": "image/png"}
        answer = people.api(person).http.put("/v1/users/me/avatar", headers=headers, content=picture)
        assert answer.status_code == status, answer.text
        assert answer.elapsed.total_seconds() < 10
    missing = people.api(person).http.get(f"/v1/users/{person.id}/avatar", headers=person.tokens.bearer)
    assert missing.status_code == 404


def test_a_callers_address_is_their_own_whoever_owns_the_port(parts: Compose) -> None:
    """The gateway accepts in a network that is not its own, and no proxy stands in between."""
    told = json.loads(parts.execute("gateway-plain", "python", "-c", ASK_FRONT))
    arrived = dict(map(tuple, told["seen"]["headers"]))
    assert arrived["x-forwarded-for"] == told["own"]


def test_nothing_but_the_front_door_has_a_port_outside(parts: Compose) -> None:
    """The suite's own tools stand beside it; no service, store or metrics port is published."""
    ours = {"front": ["8000/tcp"], "gateway-plain": ["8000/tcp"], "mail-catcher": ["8025/tcp"]}
    for part in parts.states():
        for container in parts.containers(part):
            ports = parts.inspect(container)["NetworkSettings"]["Ports"] or {}
            published = [port for port, places in ports.items() if places]
            assert published in ([], ours.get(part, [])) or part == "toxics", (part, published)
