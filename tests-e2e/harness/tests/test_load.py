"""Open-loop load against a small server that lies on request, and the invariants that notice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

from gatehouse_e2e.api import Person, Tokens
from gatehouse_e2e.history import Exchange, History, Span, violations
from gatehouse_e2e.load import Load, Read, ReadRefused, Refresh, Rename, Share
from gatehouse_e2e.plots import percentiles, timeline
from gatehouse_e2e.steady import Fault, added

from .conftest import Handler, answer, http_server


def somebody(number: int = 1) -> Person:
    tokens = Tokens(f"token-{number}", f"refresh-{number}", 300, "*")
    return Person(f"id-{number}", f"{number}@people.example", "Name 0", "secret", f"10.0.0.{number}", tokens)


def run_load(
    handler: Handler, *shares: Share, until: Callable[[History], bool], deadline: float = 1
) -> History:
    with http_server(handler) as url, Load(url, shares, deadline).running() as history:
        patience = time.monotonic() + 10
        while not until(history):
            assert time.monotonic() < patience
            time.sleep(0.01)
    return history


def enough(count: int) -> Callable[[History], bool]:
    return lambda history: len(history.exchanges) >= count


def me(first: str, headers: dict[str, str], body: bytes) -> bytes:
    number = headers["authorization"].rpartition("-")[2]
    return answer(200, {"id": f"id-{number}"})


def test_requests_leave_on_time_although_the_server_is_slow() -> None:
    def slow(first: str, headers: dict[str, str], body: bytes) -> bytes:
        time.sleep(takes)  # in the one thread: who waits for an answer before the next request falls behind
        return me(first, headers, body)

    takes = 0.25
    history = run_load(slow, Share(20, Read([somebody()])), until=enough(3), deadline=10)
    assert max(one.started - one.planned for one in history.exchanges) < takes
    assert max(one.seconds for one in history.exchanges) > 2 * takes
    assert not violations(history)


def test_somebody_elses_body_is_noticed() -> None:
    history = run_load(
        lambda *_: answer(200, {"id": "id-2"}), Share(50, Read([somebody(1)])), until=enough(3)
    )
    assert "no body of another user" in violations(history)[0]


def test_a_success_with_a_bad_token_is_noticed() -> None:
    history = run_load(me, Share(50, ReadRefused("forged", [somebody()])), until=enough(1))
    assert "no success for a bad or revoked token" in violations(history)[0]


def test_a_good_token_refused_is_noticed_and_an_outage_is_not() -> None:
    refused = answer(401, {"code": "token_expired", "request_id": "r"}, media_type="application/problem+json")
    down = answer(503, {"code": "keys_unavailable", "request_id": "r"}, media_type="application/problem+json")
    share = Share(50, Read([somebody()]))
    assert (
        "a good token is never refused" in violations(run_load(lambda *_: refused, share, until=enough(1)))[0]
    )
    assert not violations(run_load(lambda *_: down, share, until=enough(1)))


def test_a_bare_5xx_is_noticed() -> None:
    history = run_load(
        lambda *_: answer(500, "Internal Server Error"), Share(50, Read([somebody()])), until=enough(1)
    )
    assert "problem" in violations(history)[0]


def test_a_hung_request_is_noticed_and_a_closed_one_is_told_apart() -> None:
    share = Share(20, Read([somebody()]))
    hung = run_load(lambda *_: b"HTTP/1.1 100 Continue\r\n\r\n", share, until=enough(1), deadline=0.2)
    assert "nothing hangs" in violations(hung)[0]
    closed = run_load(lambda *_: None, share, until=enough(1))
    assert closed.exchanges[0].outcome == "broken"
    assert not violations(closed)


def test_a_lost_refresh_is_retried_with_the_same_token_and_then_moves_on() -> None:
    asked: list[str] = []

    def token(first: str, headers: dict[str, str], body: bytes) -> bytes | None:
        asked.append(body.decode().rpartition("=")[2])
        made = {"access_token": "a", "refresh_token": f"r{len(asked)}", "expires_in": 300, "scope": "*"}
        return None if len(asked) == 1 else answer(200, made)

    run_load(token, Share(20, Refresh([somebody()])), until=lambda _: len(asked) >= 3)
    assert asked[:3] == ["refresh-1", "refresh-1", "r2"]


def test_an_acknowledged_write_that_is_gone_is_noticed() -> None:
    stored = {"name": "Name 0"}

    def forgetful(first: str, headers: dict[str, str], body: bytes) -> bytes:
        if first.startswith("PATCH"):
            return answer(200, {**stored, **json.loads(body)})  # acknowledged, never stored, and no ETag
        return answer(200, stored, 'ETag: "1"')

    rename = Rename([somebody()])
    run_load(forgetful, Share(50, rename), until=lambda _: bool(rename.lost))
    assert "acknowledged 'Name 1', found 'Name 0'" in rename.lost[0]


def test_recovery_is_counted_to_the_last_failure() -> None:
    history = History()
    for planned, status in ((0.0, 200), (1.0, 503), (1.5, 200), (2.0, 503), (2.5, 200)):
        history.add(Exchange("read", planned, planned, ended=planned + 0.1, status=status))
    assert history.back_after("read", since=0.5) == 1.5
    assert history.back_after("read", since=2.2) == 0


def test_what_a_fault_adds_is_more_than_what_the_same_done_to_a_bystander_costs() -> None:
    def suffered(usual: float, at_the_deed: float) -> Fault:
        history = History()
        for planned in range(100):
            took = at_the_deed if 10 <= planned < 20 else usual
            history.add(Exchange("read", planned, planned, ended=planned + took, status=200))
        return Fault(history, began=10, mending=90, mended=91)

    bystander = suffered(usual=0.01, at_the_deed=0.04)
    assert added(0.99, [suffered(0.01, 0.04)], [bystander], "read") == 0
    assert round(added(0.99, [suffered(0.01, 0.2)], [bystander], "read"), 6) == 0.16
    assert round(added(0.5, [suffered(0.03, 0.04)], [bystander], "read"), 6) == 0.02
    hiccup, slower = suffered(0.01, 0.9), suffered(0.01, 0.05)
    assert round(added(0.99, [slower, slower, slower], [bystander, hiccup, bystander], "read"), 6) == 0.01


def test_a_timeline_shows_outcomes_and_the_faults_span() -> None:
    history = run_load(me, Share(50, Read([somebody()])), until=enough(5))
    with history.span("mysql <killed>"):
        pass
    plot = timeline(history, "title <1>")
    root = ElementTree.fromstring(plot)
    said = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"title <1>", "mysql <killed>", "served"} <= set(said)
    assert "#4c9f70" in plot


def test_the_bars_of_a_steady_load_are_equally_high() -> None:
    history = History()
    for number in range(400):  # for 100 s
        history.add(Exchange("read", number / 4, number / 4, ended=number / 4 + 0.01, status=200))
    root = ElementTree.fromstring(timeline(history, "steady"))
    bars = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("fill") == "#4c9f70"]
    assert len({bar.get("height") for bar in bars[:-1]}) == 1  # the last is the legend's


def test_names_of_faults_that_follow_each_other_do_not_meet() -> None:
    history = History(spans=[Span(f"fault number {number}", number, number + 0.5) for number in range(60)])
    for number in range(60):
        history.add(Exchange("read", number, number, ended=number + 0.9, status=200))
    root = ElementTree.fromstring(timeline(history, "many"))
    names = [one for one in root.iter("{http://www.w3.org/2000/svg}text") if (one.text or "")[:5] == "fault"]
    assert len(names) > 10
    for line in {name.get("y") for name in names}:
        starts = sorted(float(name.get("x", "0")) for name in names if name.get("y") == line)
        assert all(after - before > 90 for before, after in pairwise(starts))


def test_a_share_smaller_than_one_caller_is_not_drawn() -> None:
    def last_of(callers: int) -> float:
        history = History()
        for number in range(callers):
            history.add(Exchange("read", number, number, ended=number + 0.01, status=200))
        root = ElementTree.fromstring(percentiles(history, "few"))
        line = next(root.iter("{http://www.w3.org/2000/svg}polyline"))
        return float(line.get("points", "").split()[-1].partition(",")[0])

    assert last_of(10) < last_of(100) < last_of(1000)
