"""What is told of a security decision, and what never is."""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from canary import OURS, Canary
from conftest import Service
from fastapi import Response
from people import People
from stored import age, records

from auth_service import audit
from service_kit import logs

MEMBERS = {
    "event",
    "outcome",
    "reason",
    "actor",
    "subject",
    "client",
    "session",
    "key",
    "address",
    "request_id",
}

Told = Callable[..., list[dict[str, Any]]]


@dataclass
class Scene:
    """A service with a person who has signed in, an administrator, and a client."""

    service: Service
    people: People
    redis: Any
    grant: dict[str, Any]
    secret: str

    @property
    def refresh_token(self) -> str:
        return str(self.grant["refresh_token"])

    async def form(self, path: str, /, client: bool = False, **form: Any) -> httpx.Response:
        credentials = {"client_id": "reports", "client_secret": self.secret} if client else {}
        return await self.service.public.post(path, data=credentials | form)

    async def sessions(self, method: str, path: str = "", **query: str) -> httpx.Response:
        async with self.service.client(self.grant["access_token"]) as client:
            return await client.request(method, f"/auth/sessions{path}", params=query)

    async def wrong_password(self, name: str = "ada@example.com") -> None:
        await self.form("/auth/token", grant_type="password", username=name, password="wrong")

    async def too_often(self) -> None:
        for _ in range(7):
            await self.wrong_password()

    async def disabled(self) -> None:
        self.people["ada@example.com"]["status"] = "disabled"
        ada: dict[str, Any] = {"username": "ada@example.com", "password": People.PASSWORD}
        await self.form("/auth/token", grant_type="password", **ada)

    async def reuse(self) -> None:
        second = (await self.service.refresh(self.refresh_token)).json()["refresh_token"]
        await self.service.refresh(second)
        await self.service.refresh(self.refresh_token)

    async def changed_password(self) -> None:
        self.people.change("ada@example.com")
        await self.service.refresh(self.refresh_token)

    async def changed_password_and_told(self) -> None:
        await self.redis.xadd("users", self.people.change("ada@example.com"))

    async def end_one(self) -> None:
        await self.sessions("DELETE", f"/{self.service.session_of(self.grant['access_token'])}")

    async def due_rotation(self) -> None:
        await age(self.redis, 31 * 86400)
        await self.service.parts.keys.tend()


DECISIONS: dict[str, tuple[Callable[[Scene], Awaitable[Any]], tuple[str, str, str]]] = {
    "a sign-in": (lambda scene: scene.service.sign_in(), ("sign-in", "granted", "")),
    "a wrong password": (Scene.wrong_password, ("sign-in", "refused", "wrong_password")),
    "an unknown person": (
        lambda scene: scene.wrong_password("x@example.com"),
        ("sign-in", "refused", "unknown"),
    ),
    "a disabled person": (Scene.disabled, ("sign-in", "refused", "disabled")),
    "too many failures": (Scene.too_often, ("sign-in", "refused", "too_many_attempts")),
    "a password given to a client of others": (
        lambda scene: scene.form("/auth/token", True, grant_type="password", username="a", password="b"),
        ("sign-in", "refused", "unauthorized_client"),
    ),
    "a refresh": (lambda scene: scene.service.refresh(scene.refresh_token), ("refresh", "granted", "")),
    "a forged refresh token": (
        lambda scene: scene.service.refresh("forged"),
        ("refresh", "refused", "refresh_token_invalid"),
    ),
    "a used refresh token": (Scene.reuse, ("refresh", "refused", "refresh_token_reused")),
    "a scope that was not granted": (
        lambda scene: scene.form("/auth/token", True, grant_type="client_credentials", scope="b"),
        ("client-token", "refused", "invalid_scope"),
    ),
    "a refresh token of another client": (
        lambda scene: scene.form(
            "/auth/token", True, grant_type="refresh_token", refresh_token=scene.refresh_token
        ),
        ("refresh", "refused", "wrong_client"),
    ),
    "a refresh after a change of password": (
        Scene.changed_password,
        ("refresh", "refused", "credentials_changed"),
    ),
    "a client's token": (
        lambda scene: scene.form("/auth/token", True, grant_type="client_credentials"),
        ("client-token", "granted", ""),
    ),
    "an audience that is not the client's": (
        lambda scene: scene.form("/auth/token", True, grant_type="client_credentials", audience="x"),
        ("client-token", "refused", "invalid_target"),
    ),
    "a client with a wrong secret": (
        lambda scene: scene.service.public.post(
            "/auth/introspect", data={"token": "x"}, auth=("reports", "wrong")
        ),
        ("client", "refused", "invalid_client"),
    ),
    "a client that may not introspect": (
        lambda scene: scene.form("/auth/introspect", token="x"),
        ("client", "refused", "invalid_client"),
    ),
    "a sign-out": (
        lambda scene: scene.form("/auth/revoke", token=scene.refresh_token),
        ("sign-out", "ended", ""),
    ),
    "a sign-out by an access token": (
        lambda scene: scene.form("/auth/revoke", token=scene.grant["access_token"]),
        ("sign-out", "ended", ""),
    ),
    "a sign-out by another client": (
        lambda scene: scene.form("/auth/revoke", True, token=scene.refresh_token),
        ("sign-out", "refused", "wrong_client"),
    ),
    "one session ended": (Scene.end_one, ("sessions", "ended", "one")),
    "all sessions ended": (lambda scene: scene.sessions("DELETE"), ("sessions", "ended", "all")),
    "all others ended": (
        lambda scene: scene.sessions("DELETE", keep="current"),
        ("sessions", "ended", "others"),
    ),
    "somebody else's session": (
        lambda scene: scene.sessions("DELETE", f"/{'x' * 22}"),
        ("sessions", "refused", "session_unknown"),
    ),
    "somebody else's sessions": (
        lambda scene: scene.sessions("GET", user="somebody"),
        ("sessions", "refused", "insufficient_role"),
    ),
    "an event of a changed password": (
        Scene.changed_password_and_told,
        ("sessions", "ended", "user.credentials_changed"),
    ),
    "a rotation that was due": (Scene.due_rotation, ("keys", "rotated", "due")),
}


@pytest.fixture
async def scene(service: Service, people: People, redis: Any) -> Scene:
    secret = await service.parts.clients.register("reports", {"a"}, {"user-service"})
    return Scene(service, people, redis, await service.sign_in(), secret)


@pytest.fixture
def lines(scene: Scene) -> Iterator[Told]:
    """The audit's lines from now on, as the service writes its log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json("auth-service"))
    logger = logging.getLogger("auth_service.audit")
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


@pytest.mark.parametrize("decision", DECISIONS)
async def test_each_decision_is_one_event_with_who_where_and_why(
    decision: str, scene: Scene, told: Told, lines: Told
) -> None:
    act, expected = DECISIONS[decision]
    before = await counted(scene.service, *expected)
    began = len(told())
    await act(scene)
    async with asyncio.timeout(5):  # an event of user-service's has its effect a little later
        while expected not in map(what, told()[began:]):
            await asyncio.sleep(0.01)
    [event] = [event for event in told()[began:] if what(event) == expected]
    assert await counted(scene.service, *expected) == before + 1
    # The very line of the log is JSON with the same members.
    [line] = [line for line in lines() if what(line) == expected]
    by_hand = event["actor"] != audit.OURSELVES
    assert line.keys() >= (MEMBERS if by_hand else MEMBERS - {"request_id"})
    assert event["address"] == ("127.0.0.0/24" if by_hand else "")


async def test_an_event_tells_who_did_it_to_whom_in_which_session(
    scene: Scene, people: People, told: Told
) -> None:
    ada = people["ada@example.com"]["id"]
    session = scene.service.session_of(scene.grant["access_token"])
    await scene.service.refresh(scene.refresh_token)
    people.add("root@example.com", "admin")
    root = await scene.service.sign_in("root@example.com")
    async with scene.service.client(root["access_token"]) as client:
        assert (await client.delete("/auth/sessions", params={"user": ada})).status_code == 204
    refreshed, _, ended = told()[-3:]
    assert (refreshed["actor"], refreshed["session"], refreshed["client"]) == (ada, session, "first-party")
    assert (ended["actor"], ended["subject"]) == (people["root@example.com"]["id"], ada)


async def test_one_address_is_told_in_the_audit_and_among_the_sessions(service: Service, told: Told) -> None:
    form = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}
    # The gateway writes the last entry; what stands left of it is what the client wrote.
    async with service.client(address="203.0.113.1, 198.51.100.9") as client:
        grant = (await client.post("/auth/token", data=form)).json()
    [event] = told()
    async with service.client(grant["access_token"]) as client:
        [session] = (await client.get("/auth/sessions")).json()["items"]
    assert event["address"] == session["address"] == "198.51.100.0/24"


async def test_what_could_not_be_decided_is_no_decision(scene: Scene, people: People, told: Told) -> None:
    people.status = 503
    began = len(told())
    assert (await scene.service.refresh(scene.refresh_token)).status_code == 503
    await scene.wrong_password()
    assert told()[began:] == []


async def test_no_word_of_another_service_becomes_a_label_of_its_own(
    scene: Scene, people: People, told: Told
) -> None:
    """A metric has a series for each, so a reason that is not one of ours is told as `other`."""
    scene.service.public.cookies.clear()  # of a known device another question comes first
    people.raw = Response(b'{"verified": false, "reason": "of-a-newer-release"}')
    await scene.wrong_password()
    people.raw = None
    await scene.redis.xadd("users", people.change("ada@example.com") | {"type": "user.of-a-newer-release"})
    async with asyncio.timeout(5):
        while ("sessions", "ended", "other") not in map(what, told()):
            await asyncio.sleep(0.01)
    assert ("sign-in", "refused", "other") in map(what, told())
    assert "of-a-newer-release" not in (await scene.service.internal.get("/metrics")).text


async def test_what_a_command_of_another_release_left_keeps_none_behind_it_from_being_told(
    scene: Scene, told: Told
) -> None:
    known = {"event": "keys", "outcome": "rotated", "reason": "command", "actor": audit.OPERATOR}
    strange = ("not JSON", "[]", json.dumps(known | {"of-a-newer-release": "x"}))
    left = [records("command").seal(audit.COMMANDS, text) for text in (*strange, json.dumps(known))]
    await scene.redis.rpush(audit.COMMANDS, *left)
    async with asyncio.timeout(5):
        while not told(audit.OPERATOR):
            await asyncio.sleep(0.01)
    assert list(map(what, told(audit.OPERATOR))) == [("keys", "rotated", "command")]


def what(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["event"], event["outcome"], event["reason"]


async def counted(service: Service, event: str, outcome: str, reason: str) -> float:
    """As the metrics say it."""
    text = (await service.internal.get("/metrics")).text
    sample = f'auth_decisions_total{{event="{event}",outcome="{outcome}",reason="{reason}"}} '
    return sum(float(line.removeprefix(sample)) for line in text.splitlines() if line.startswith(sample))


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("no address", ""),
    ],
)
def test_an_address_is_told_by_its_prefix_alone(address: str, prefix: str) -> None:
    assert audit.AuditContext(address).prefix == prefix


def test_the_canary_hears_each_kind_of_secret(canary: Canary) -> None:
    logger = logging.getLogger("auth_service.test")
    mac = "A" * 43
    for secret in (People.PASSWORD, "eyJhbGciOi.eyJpc3Mi.c2ln", f"{'s' * 22}.0.0.{mac}", "ada@example.com"):
        logger.info("a line with %s", secret)
        assert canary.heard, secret
        canary.heard.clear()
    logger.info("a line without any, about %s", audit.AuditContext("192.0.2.7").prefix)
    assert not canary.heard


@pytest.mark.parametrize(
    "form", [{"refresh_token": "canary-token"}, {"username": "a@b.example", "password": "canary"}]
)
async def test_no_answer_echoes_what_was_sent(service: Service, form: dict[str, str]) -> None:
    for grant in ("password", "refresh_token", "canary-grant"):
        response = await service.token(grant_type=grant, **form)
        assert response.status_code == 400
        assert "canary" not in response.text
    response = await service.public.get(
        "/auth/verify", headers={"authorization": "Bearer canary.canary.canary"}
    )
    assert response.status_code == 401
    assert "canary" not in response.text


async def test_no_complaint_about_an_address_echoes_it(service: Service) -> None:
    async with service.client((await service.sign_in())["access_token"]) as client:
        for method, path in (
            ("DELETE", "/auth/sessions?keep=canary"),
            ("DELETE", "/auth/sessions/canary"),
            ("GET", "/auth/sessions?user=canary"),
            ("GET", "/auth/verify?scope=canary%22"),
            ("GET", "/auth/verify?access_token=canary.canary.canary"),
            ("GET", "/auth/canary"),
        ):
            response = await client.request(method, path)
            assert 400 <= response.status_code < 500, path
            assert "canary" not in response.text + str(response.headers), path


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke", "/auth/introspect"])
async def test_no_complaint_about_a_form_echoes_or_logs_it(
    service: Service, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    word = "canary-7f3"
    for body in (
        f"grant_type=password&password={word}",
        f"grant_type=password&username={word}&password={word}",
        f"grant_type=refresh_token&refresh_token={word}",
        f"grant_type={word}",
        f"grant_type=password&username=a&password=b&scope={word}%22",
        f"password={word}&password={word}",
        f"{word}={word}&{word}=%ff",
        f"token={word}&client_id={word}&client_secret={word}",
        f'{{"username": 7, "password": "{word}"}}',
    ):
        kind = "application/json" if body.startswith("{") else "application/x-www-form-urlencoded"
        response = await service.public.post(path, content=body, headers={"content-type": kind})
        assert response.status_code < 500, body
        assert word not in response.text + str(response.headers), body
    ours = [record for record in caplog.records if record.name.startswith(OURS)]
    assert len(ours) >= 9  # a line for each request
    assert not [record.getMessage() for record in ours if word in str(vars(record))]
