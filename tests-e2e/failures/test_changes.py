"""What operators do while people use the system: rotate keys, change the schema."""

from __future__ import annotations

import time

import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.load import Read, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture

pytestmark = [pytest.mark.breaks, pytest.mark.full]

# A key signs once it has been published for two of the lifetimes that compose.yaml here sets.
PUBLISHED_SECONDS = 31


def test_nobody_notices_that_the_signing_key_changed(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    readers = [people.signed_in() for _ in range(4)]  # with tokens of the key before, all the time
    with steady("key rotation", Share(100, Read(readers))) as seen:
        for _ in range(rounds):
            time.sleep(PUBLISHED_SECONDS)
            with seen.span("rotated"):
                parts.execute("auth-service", "python", "-m", "auth_service", "keys", "rotate")
        time.sleep(5)
    promise("key rotation under load: failed", len(seen.failures()), at_most=0, unit="")
    promise("key rotation under load: requests", len(seen.select()), at_least=20_000, unit="")


def test_a_migration_runs_under_load_beside_the_code_before_it(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    """The load uses nothing of the newest revision, as the code before it did not."""
    with steady("migration") as seen:
        for _ in range(rounds):
            for verb, revision in (("downgrade", "0001_people"), ("upgrade", "head")):
                time.sleep(2)
                with seen.span(verb):
                    parts.execute(
                        "user-service", "python", "-m", "user_service.migrations", verb, revision, seconds=90
                    )
        time.sleep(2)
    promise("migration under load: errors", len(seen.failures()), at_most=0, unit="")
