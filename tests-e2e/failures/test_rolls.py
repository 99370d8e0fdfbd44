"""Releases, good and bad, that are rolled out while people use the system, by operators who are cut short."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.history import History
from gatehouse_e2e.load import Read, Refresh, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.systems import CommandFailed, System

pytestmark = pytest.mark.breaks

PARTS = ("auth-service", "user-service")
EVERY_PART = (*PARTS, "gateway")
GOOD = ('LABEL release="another"',)
DIES = ('CMD ["python", "-c", "import a_module_that_is_not_there"]',)
NEVER_READY = ('CMD ["python", "-c", "import time; print(\'still loading\', flush=True); time.sleep(1000)"]',)
MIGRATION_FAILS = (
    "USER root",
    "RUN cd /opt/venv/lib/python3*/site-packages/user_service/migrations"
    " && echo 'raise SystemExit(\"no such column\")' >__main__.py",
    "USER 10001:10001",
)
# Its lines, why it is of no use, and what it says itself.
USELESS = {
    "dies at import": (DIES, "ends again and again|ended with exit code 1", "a_module_that_is_not_there"),
    "never gets ready": (NEVER_READY, "is not ready after 1[67] s", "still loading"),
    "fails to migrate": (MIGRATION_FAILS, "user-service-migrate ended with exit code 1", "no such column"),
}
Loaded = Callable[[str], AbstractContextManager[History]]


@pytest.fixture(scope="module")
def base(system: System) -> Iterator[None]:
    """What serves was brought in by an operator's command, and is there again in the end."""
    if not isinstance(system, Compose):
        yield
        return
    system.up_again()
    for part in EVERY_PART:
        system.name_base(part)
    yield
    for part in EVERY_PART:
        system.forget_releases(part)


@pytest.fixture
def load(steady: SteadyFixture, people: People, full: bool, request: pytest.FixtureRequest) -> Loaded:
    """Reads on connections that are kept and on new ones, beside what everybody does."""
    request.getfixturevalue(
        "base"
    )  # not before `steady` has found the machine quiet enough to start anything in 16 s
    readers = [people.signed_in() for _ in range(16)]
    kept, once = (80, 40) if full else (5, 5)

    def under(title: str) -> AbstractContextManager[History]:
        # Twenty rolls take longer than a token lives.
        return steady(
            title,
            Share(kept, Read(readers)),
            Share(once, Read(readers, once=True)),
            Share(0.25, Refresh(readers)),
        )

    return under


def serving(parts: Compose, part: str) -> set[str]:
    return {container for container in parts.containers(part) if parts.is_healthy(container)}


@pytest.mark.full
@pytest.mark.parametrize("part", EVERY_PART)
def test_a_release_rolls_out_without_an_unanswered_request(
    part: str, parts: Compose, load: Loaded, promise: PromiseFixture
) -> None:
    with load(f"make roll SERVICE={part}") as seen:
        while len(seen.select()) < 10_000:
            time.sleep(1)
            before = set(parts.containers(part))
            with seen.span("roll"):
                parts.roll(part)
            assert not before & set(parts.containers(part)), "others have taken their place"
        time.sleep(2)
    promise(f"{part} rolled out: failed", len(seen.failures()), at_most=0, unit="")
    promise(f"{part} rolled out: requests", len(seen.select()), at_least=10_000, unit="")


@pytest.mark.parametrize(
    ("part", "useless"),
    [
        ("auth-service", "dies at import"),
        ("user-service", "fails to migrate"),
        pytest.param("user-service", "dies at import", marks=pytest.mark.full),
        pytest.param("auth-service", "never gets ready", marks=pytest.mark.full),
        pytest.param("user-service", "never gets ready", marks=pytest.mark.full),
    ],
)
def test_a_release_of_no_use_is_told_and_taken_back_and_nobody_notices(
    part: str, useless: str, parts: Compose, load: Loaded, promise: PromiseFixture
) -> None:
    """What is told is why, and its own last lines; the next `make up` has nothing to do."""
    lines, why, last_line = USELESS[useless]
    containers, tags = set(parts.containers(part)), parts.tags(part)
    with load(f"{part} {useless}") as seen:
        time.sleep(1)
        with parts.release(part, *lines), seen.span("roll"):
            said = parts.watched_roll(part)
        time.sleep(2)
    assert any(last_line in line for _, line in said), said
    assert set(parts.containers(part)) == containers
    assert parts.tags(part) == tags
    parts.up_again()
    assert set(parts.containers(part)) == containers
    told = next(at for at, line in said if re.search(why, line))
    begun = [at for at, line in said if re.search(": [23] of 5", line)][-1]
    promise(f"a release that {useless}: failed", len(seen.failures()), at_most=0, unit="")
    promise(f"a release that {useless}: told", told - begun, at_most=20)


@pytest.mark.parametrize("step", [3, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2, 4, 5))])
def test_a_roll_that_was_killed_is_set_right_by_the_next_up_and_finished_by_the_next_roll(
    step: int, parts: Compose, load: Loaded, promise: PromiseFixture
) -> None:
    part = "auth-service"
    before = serving(parts, part)
    with load(f"roll killed in step {step}") as seen, parts.release(part, f'LABEL killed="{step}"'):
        parts.killed_roll(part, step=step, after=random.random())
        there = serving(parts, part)
        parts.up_again()
        after = serving(parts, part)
        assert after == (before if step < 5 else there - before), "who serves goes on"
        assert len(parts.containers(part)) == 1
        parts.up_again()
        assert serving(parts, part) == after
        parts.roll(part)
        assert len(parts.containers(part)) == 1
        assert not serving(parts, part) & after
        time.sleep(2)
    promise("roll killed anywhere: failed", len(seen.failures()), at_most=0, unit="")


@pytest.mark.full
def test_up_changes_no_container_that_serves_however_it_came_to_be(
    parts: Compose, load: Loaded, promise: PromiseFixture
) -> None:
    part = "auth-service"

    def changed_by_up(*named: str) -> set[str]:
        before = {one: parts.containers(one) for one in (*EVERY_PART, "front", "mysql", "redis")}
        parts.up_again(*named)
        return {one for one, ids in before.items() if parts.containers(one) != ids}

    with load("make up of an unchanged tree") as seen:
        parts.roll(part)
        assert not changed_by_up()
        for other in ("user-service", "gateway", "redis-limits"):
            assert not changed_by_up(other)
        with parts.release(part, *GOOD):
            parts.roll(part)
            assert not changed_by_up()
            parts.roll(part, "--to", "previous")
            assert not changed_by_up()
        with parts.release(part, *DIES), pytest.raises(CommandFailed):
            parts.roll(part)
        assert not changed_by_up()
    promise("make up of an unchanged tree: failed", len(seen.failures()), at_most=0, unit="")


@pytest.mark.full
def test_twenty_rolls_good_bad_and_killed_end_with_what_was_wanted(
    parts: Compose, load: Loaded, promise: PromiseFixture
) -> None:
    part = "auth-service"
    chosen = random.Random(2026)
    parts.scale(part, 2)
    try:
        with load("twenty rolls, good, bad and killed") as seen:
            for number in range(20):
                how = chosen.choice(("good", "bad", "killed", "back"))
                lines = DIES if how == "bad" else (f'LABEL release="{number}"',)
                with parts.release(part, *lines), suppress(CommandFailed):
                    if how == "killed":
                        parts.killed_roll(part, step=chosen.randint(1, 5), after=chosen.random())
                    else:
                        parts.roll(part, *(("--to", "previous") if how == "back" else ()))
            with parts.release(part, *GOOD):
                parts.roll(part)
            time.sleep(2)
        assert len(serving(parts, part)) == len(parts.containers(part)) == 2
        labels = [parts.inspect(one)["Config"]["Labels"] for one in parts.containers(part)]
        assert [one["release"] for one in labels] == ["another", "another"]
        promise("twenty rolls: failed", len(seen.failures()), at_most=0, unit="")
    finally:
        parts.scale(part, 1)
