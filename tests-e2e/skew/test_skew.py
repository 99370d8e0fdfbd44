"""The clock of the part that signs is wrong: a little is nobody's business, a lot is refused with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.load import Read, Refresh, Share, SignIn
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import LoadFixture, PromiseFixture
from gatehouse_e2e.steady import API, SIGNING_IN
from gatehouse_e2e.systems import System

pytestmark = [pytest.mark.breaks, pytest.mark.full]

LEEWAY_SECONDS = 30
SERVICES = ("gateway", "auth-service", "user-service")
REQUESTS = "http_request_duration_seconds_count"


@pytest.fixture(scope="module")
def somebody(system: System, people: People) -> Iterator[list[Person]]:
    """Signed in while the clock was right, as it is again at the end."""
    if not isinstance(system, Compose):
        pytest.skip(f"sets a container's clock, and {system.url} is not a compose project of ours")
    yield [people.signed_in() for _ in range(4)]
    system.up(print)


@pytest.mark.parametrize("shift", [-LEEWAY_SECONDS, LEEWAY_SECONDS, -120, 120])
def test_a_clock_that_is_wrong_is_invisible_up_to_the_leeway_and_said_beyond(
    shift: int, somebody: list[Person], parts: Compose, load: LoadFixture, promise: PromiseFixture
) -> None:
    parts.up(print, overlays=["compose.skew.yaml"], CLOCK_SHIFT=str(shift))
    refused_before = parts.metric("user-service", REQUESTS, status="401")
    shares = [Share(20, Read(somebody)), Share(3, SignIn(somebody)), Share(3, Refresh(somebody))]
    with load(*shares, title=f"auth-service's clock {shift:+} s").running() as seen:
        time.sleep(5)
    promise(f"clock {shift:+} s: API errors", len(seen.failures(*API)), at_most=0, unit="")
    promise(f"clock {shift:+} s: crashes", parts.crashes(*SERVICES), at_most=0, unit="")
    told = seen.select(*SIGNING_IN)
    if abs(shift) <= LEEWAY_SECONDS:
        assert {one.status for one in told} == {200}
    else:  # what auth-service signs now is not good at user-service: it cannot ask who somebody is
        assert {one.status for one in told} == {503}
        assert all(one.retry_after for one in told)
        assert parts.metric("user-service", REQUESTS, status="401") > refused_before
