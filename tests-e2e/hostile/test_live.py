"""WebSockets and event streams that strangers and neighbours try to open, to keep, or to end for somebody else."""

from __future__ import annotations

import json

import pytest

from gatehouse_e2e.api import Api, Person
from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System
from gatehouse_e2e.waiting import until
from gatehouse_e2e.websocket import WebSocket

pytestmark = pytest.mark.usefixtures("echo")

PATH = "/echo-socket/socket"


def bearer(person: Person) -> tuple[str, str]:
    return "Authorization", f"Bearer {person.tokens.access_token}"


def forged(person: Person) -> str:
    signed, _, signature = person.tokens.access_token.rpartition(".")
    return f"{signed}.{signature[-2::-1]}{signature[-1]}"


def test_nothing_opens_without_a_token_or_with_one_that_nobody_issued(
    system: System, api: Api, person: Person
) -> None:
    attempts: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
        "none": ((), ()),
        "none, but a subprotocol": ((), ("chat.example",)),
        "an empty one": ((), ("bearer.", "chat.example")),
        "forged, in the header": ((("Authorization", f"Bearer {forged(person)}"),), ()),
        "forged, in the subprotocol": ((), (f"bearer.{forged(person)}", "chat.example")),
        "good, but forged in the header": (
            (("Authorization", f"Bearer {forged(person)}"),),
            (f"bearer.{person.tokens.access_token}",),
        ),
        "a refresh token": ((), (f"bearer.{person.tokens.refresh_token}",)),
        "in a cookie": ((("Cookie", f"access_token={person.tokens.access_token}"),), ()),
    }
    for name, (headers, subprotocols) in attempts.items():
        with WebSocket(system.url, PATH, *headers, subprotocols=subprotocols) as socket:
            assert socket.answer.status == 401, (name, socket.answer)
            assert socket.answer.code, name
    query = WebSocket(system.url, f"{PATH}?access_token={person.tokens.access_token}")
    with query:
        assert query.answer.status in (400, 401)
    for refused in ({}, {"Authorization": f"Bearer {forged(person)}"}):
        assert api.http.get("/echo-signed-in/events", headers=refused).status_code == 401


def test_a_session_that_has_ended_opens_nothing(system: System, people: People, person: Person) -> None:
    api = people.api(person)
    api.sign_out(person.tokens.refresh_token)
    until(
        lambda: api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401,
        5,
        "the session refused",
    )
    for headers, subprotocols in (
        ((bearer(person),), ()),
        ((), (f"bearer.{person.tokens.access_token}",)),
    ):
        with WebSocket(system.url, PATH, *headers, subprotocols=subprotocols) as socket:
            assert (socket.answer.status, socket.answer.code) == (401, "session_revoked")


def test_anothers_token_beside_mine_neither_arrives_nor_keeps_mine_open(
    system: System, people: People, person: Person
) -> None:
    """Whose socket it is, is decided once: by the header, and the session that opened it ends it."""
    neighbour = people.signed_in()
    theirs = f"bearer.{neighbour.tokens.access_token}"
    with WebSocket(system.url, PATH, bearer(person), subprotocols=(theirs, "chat.example")) as socket:
        assert socket.answer.status == 101
        arrived = str(socket.next())
        assert neighbour.tokens.access_token not in arrived
        assert dict(json.loads(arrived)["headers"])["authorization"] == bearer(person)[1]
        people.api(neighbour).sign_out(neighbour.tokens.refresh_token)
        with pytest.raises(TimeoutError):
            socket.next(1)
        people.api(person).sign_out(person.tokens.refresh_token)
        assert getattr(socket.next(1), "code", None) == 1008


def test_a_page_of_another_origin_opens_no_websocket(system: System, person: Person) -> None:
    for origin in ("https://evil.example", "null", f"{system.url}.evil.example", "https://app.example.evil"):
        with WebSocket(system.url, PATH, bearer(person), ("Origin", origin)) as socket:
            assert (socket.answer.status, socket.answer.code) == (403, "origin_refused"), origin
    for origin in (system.url, "https://app.example"):
        with WebSocket(system.url, PATH, bearer(person), ("Origin", origin)) as socket:
            assert socket.answer.status == 101, origin


def test_only_a_websocket_route_switches(system: System, person: Person) -> None:
    with WebSocket(system.url, "/echo-signed-in/socket", bearer(person)) as socket:
        assert socket.answer.status == 200
        assert "upgrade" not in dict(socket.answer.json()["headers"])
