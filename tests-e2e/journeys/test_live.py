"""What stays open while a person is signed in: WebSockets and event streams of a service behind the gateway."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import httpx
import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System
from gatehouse_e2e.websocket import Closed, WebSocket

pytestmark = pytest.mark.usefixtures("echo")

# The promise for what is open when its session ends.
ENDED_WITHIN = 1.0


def with_header(url: str, person: Person) -> WebSocket:
    return WebSocket(url, "/echo-socket/socket", ("Authorization", f"Bearer {person.tokens.access_token}"))


def with_subprotocol(url: str, person: Person) -> WebSocket:
    """As browsers do, which cannot set the header."""
    return WebSocket(
        url, "/echo-socket/socket", subprotocols=(f"bearer.{person.tokens.access_token}", "chat.example")
    )


EITHER_WAY = pytest.mark.parametrize("opened", [with_header, with_subprotocol])
Open = Callable[[str, Person], WebSocket]


@EITHER_WAY
def test_a_websocket_echoes_until_its_session_ends_and_says_why_it_closed(
    opened: Open, system: System, people: People, person: Person
) -> None:
    with opened(system.url, person) as socket:
        assert socket.answer.status == 101
        arrived = json.loads(str(socket.next()))
        assert arrived["target"] == "/echo-socket/socket"
        for said in ("hello", "é" * 50, secrets.token_hex(5000)):
            socket.say(said)
            assert socket.next() == said
        people.api(person).sign_out(person.tokens.refresh_token)
        assert socket.next(ENDED_WITHIN) == Closed(1008, "session_revoked")


def test_the_token_among_the_subprotocols_is_for_the_gateway_alone(system: System, person: Person) -> None:
    with with_subprotocol(system.url, person) as socket:
        assert socket.answer.header("sec-websocket-protocol") == "chat.example"
        arrived = dict(json.loads(str(socket.next()))["headers"])
        assert arrived["sec-websocket-protocol"] == "chat.example"


@EITHER_WAY
def test_a_websocket_stays_when_its_token_is_renewed_or_another_session_ends(
    opened: Open, system: System, people: People, person: Person
) -> None:
    api = people.api(person)
    elsewhere = api.sign_in(person.email, person.password)
    with opened(system.url, person) as socket:
        assert socket.answer.status == 101
        socket.next()
        person.tokens = api.refresh(person.tokens.refresh_token)
        api.sign_out(elsewhere.refresh_token)
        with pytest.raises(TimeoutError):
            socket.next(ENDED_WITHIN)
        socket.say("still here")
        assert socket.next() == "still here"


def test_every_websocket_of_a_person_closes_when_the_password_changes(
    system: System, people: People, person: Person
) -> None:
    api = people.api(person)
    with with_header(system.url, person) as one, with_subprotocol(system.url, person) as other:
        for socket in (one, other):
            socket.next()
        api.change_password(person.tokens, person.password, people.stranger().password)
        for socket in (one, other):
            closed = socket.next(3)
            assert isinstance(closed, Closed)
            assert (closed.code, closed.reason) in ((1008, "credentials_changed"), (1008, "session_revoked"))


def test_an_event_stream_goes_on_and_ends_with_its_session(people: People, person: Person) -> None:
    api = people.api(person)
    with api.http.stream("GET", "/echo-signed-in/events", headers=person.tokens.bearer) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines) for _ in range(12)] == [f"data: {number}" for number in range(12)]
        with httpx.Client(base_url=people.url) as another:
            another.post("/auth/revoke", data={"token": person.tokens.refresh_token}).raise_for_status()
        rest = list(lines)  # to its end, which is a clean one: anything else raises
        assert len(rest) <= 10 * ENDED_WITHIN + 5, "at ten a second"
    refused = api.http.get("/echo-signed-in/events", headers=person.tokens.bearer)
    assert (refused.status_code, refused.json()["code"]) == (401, "session_revoked")
