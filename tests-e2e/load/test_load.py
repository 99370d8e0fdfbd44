"""Sign-in, reading and both mixed at a steady open-loop rate: what a caller waits, at which share of the requests.

RATE multiplies every rate (default 1, which a small machine has room for); `--full` keeps each up for half a minute.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.load import Check, Read, Refresh, Rename, Share, SignIn
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import LoadFixture

RATE = float(os.environ.get("RATE", "1"))

MIXES: dict[str, Callable[[Sequence[Person]], list[Share]]] = {
    "sign-in": lambda people: [Share(4 * RATE, SignIn(people))],
    "read": lambda people: [Share(100 * RATE, Read(people))],
    "mixed": lambda people: [
        Share(60 * RATE, Read(people)),
        Share(10 * RATE, Check(people)),
        Share(5 * RATE, Rename(people)),
        Share(5 * RATE, Refresh(people)),
        Share(1 * RATE, SignIn(people)),
    ],
}


@pytest.mark.parametrize("mix", MIXES)
def test_everybody_is_served_at_a_steady_rate(
    mix: str, people: People, load: LoadFixture, full: bool
) -> None:
    crowd = [people.signed_in() for _ in range(12)]
    with load(*MIXES[mix](crowd), title=mix, percentiles=True).running() as seen:
        time.sleep(30 if full else 5)
    assert len(seen.select()) > 10
    failed = Counter(f"{one.status} {one.code or one.failure}" for one in seen.failures())
    assert not failed, f"{failed.total()} of {len(seen.select())} were not served: {dict(failed)}"
