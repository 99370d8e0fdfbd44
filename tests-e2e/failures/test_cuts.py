"""The network between two parts is cut, in every way and on every edge: reset, refused, or nothing comes back at all."""

from __future__ import annotations

import pytest

from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, suffer
from gatehouse_e2e.toxics import Kind, Toxic, ToxicControl

pytestmark = [pytest.mark.breaks, pytest.mark.full]

# Edge -> what uses it, and the bound of that when what is open says nothing more (as if the other end were paused).
EDGES: dict[str, tuple[tuple[str, ...], float]] = {
    "gateway-to-user-service": (API, 5.2),
    "gateway-to-auth-service": (SIGNING_IN, 2.6),
    "gateway-to-redis": ((), 5.2),
    "auth-service-to-redis": (SIGNING_IN, 2.6),
    "auth-service-to-user-service": (SIGNING_IN, 2.6),
    "user-service-to-mysql": (API, 3.2),
    "user-service-to-redis": ((), 5.2),
}
FAILED = {502, 503, 504}


@pytest.mark.parametrize("kind", ["down", "drop", "reset"])
@pytest.mark.parametrize("edge", EDGES)
def test_a_cut_is_told_in_time_to_those_it_concerns_and_to_nobody_else(
    edge: str, kind: Kind, edges: ToxicControl, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    concerned, paused = EDGES[edge]
    toxic = Toxic(kind)
    with steady(f"{edge}: {kind}") as seen:
        for _ in range(rounds):
            fault = suffer(seen, kind, lambda: edges.set(edge, toxic), lambda: edges.clear(edge))
            others = [one for one in fault.failures(*API) if one.operation not in concerned]
            assert not others, others[:5]
            assert {one.status for one in fault.failures(*concerned) if one.status} <= FAILED
            bound = paused if kind == "drop" else 1
            promise(
                f"network cut ({kind}), {edge}: told",
                fault.slowest(*concerned) if concerned else 0,
                at_most=bound,
            )
            promise(f"network cut ({kind}), {edge}: back", fault.back_after(*API, *SIGNING_IN), at_most=5)
