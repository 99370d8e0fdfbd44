"""The network between two parts is cut, in every way and on every edge: reset, refused, or nothing comes back at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from gatehouse_e2e.api import Person, Refused
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, suffer
from gatehouse_e2e.toxics import Toxic, ToxicControl
from gatehouse_e2e.waiting import until

pytestmark = [pytest.mark.breaks, pytest.mark.full]

# Edge -> what uses it, and the bound of that when what is open says nothing more (as if the other end were paused).
EDGES: dict[str, tuple[tuple[str, ...], float]] = {
    "gateway-to-user-service": (API, 5.2),
    "gateway-to-auth-service": (SIGNING_IN, 2.6),
    "gateway-to-redis": ((), 0),
    "auth-service-to-redis": (SIGNING_IN, 2.6),
    "auth-service-to-user-service": (SIGNING_IN, 2.6),
    "user-service-to-mysql": ((*API, *SIGNING_IN), 3.2),
    "user-service-to-redis": ((), 0),
}
FAILED = {502, 503, 504}
ROUNDS = 2


def refused(edge: str, edges: ToxicControl) -> None:
    edges.set(edge, Toxic("down"))


def reset(edge: str, edges: ToxicControl) -> None:
    edges.set(edge, Toxic("reset"))


def unanswered(edge: str, edges: ToxicControl) -> None:
    """What is open is cut, and nothing answers a new connection."""
    refused(edge, edges)
    edges.set(edge, Toxic("drop"))


def silent(edge: str, edges: ToxicControl) -> None:
    """Nothing passes any more, on what is open too."""
    edges.set(edge, Toxic("drop"))


@pytest.mark.parametrize("edge", EDGES)
def test_a_cut_is_told_in_time_to_those_it_concerns_and_to_nobody_else(
    edge: str, edges: ToxicControl, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    concerned, paused = EDGES[edge]
    cuts: list[tuple[Callable[[str, ToxicControl], None], float]] = [
        (refused, 1),
        (reset, 1),
        (unanswered, 1),
        (silent, paused),
    ]
    try:
        with steady(f"{edge} cut") as seen:
            for cut, bound in cuts * ROUNDS:
                begin, mend = partial(cut, edge, edges), partial(edges.clear, edge)
                fault = suffer(seen, cut.__name__, begin, mend, lasts=1 + bound)
                others = [one for one in fault.failures(*API) if one.operation not in concerned]
                name = f"network cut, {edge}, {cut.__name__}"
                promise(f"{name}: others' API errors", len(others), at_most=0, unit="")
                promise(f"{name}: back", fault.back_after(*API, *SIGNING_IN), at_most=5)
                if concerned:
                    assert {one.status for one in fault.failures(*concerned) if one.status} <= FAILED
                    promise(f"{name}: told", fault.slowest(*concerned), at_most=bound)
    finally:
        edges.clear(edge)


def test_somebody_disabled_gets_no_token_even_while_the_news_cannot_leave(
    edges: ToxicControl, people: People, admin: Person
) -> None:
    person = people.signed_in()
    api = people.api(person)
    cut = "user-service-to-redis"
    edges.set(cut, Toxic("drop"))
    try:
        disabled = people.api(admin).http.post(f"/v1/users/{person.id}/disable", headers=admin.tokens.bearer)
        assert disabled.is_success, disabled.text
        with pytest.raises(Refused) as refusal:
            api.refresh(person.tokens.refresh_token)
        assert refusal.value.error == "invalid_grant"
    finally:
        edges.clear(cut)
    until(
        lambda: api.http.get("/v1/users/me", headers=person.tokens.bearer).status_code == 401,
        5,
        "the news has arrived",
    )
