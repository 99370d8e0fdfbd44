"""What a run leaves of its images: one set for each checkout that is still there, whichever builder made it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_e2e.compose import (
    CHECKOUT_LABEL,
    checkout_label,
    engine_missing,
    images,
    images_of,
    remove_images_of_vanished_checkouts,
    remove_leftovers,
    remove_nameless,
)
from gatehouse_e2e.plugin import CHECKOUT
from gatehouse_e2e.systems import run

BUILDERS = pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic builder", "BuildKit"])


def test_images_are_named_after_the_checkout_and_not_the_run(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert images_of(here) == images_of(here / "." / ".." / "here") != images_of(there)


@pytest.fixture
def name() -> Iterator[str]:
    if reason := engine_missing():
        pytest.skip(reason)
    name = f"gatehouse-e2e-try-{secrets.token_hex(4)}"
    yield name
    for image in images(name):
        run(["docker", "image", "rm", "--force", image])


@BUILDERS
def test_a_changed_image_takes_the_place_of_the_one_before(buildkit: str, name: str) -> None:
    before = build(name, "one", buildkit)
    remove_nameless(before - images(name))
    assert images(name) == before, "what has a name stays"
    after = build(name, "two", buildkit)
    assert after.isdisjoint(before)
    run(["docker", "tag", *after, f"{name}-elsewhere"])  # another checkout built the same
    remove_nameless(before)
    assert not before & everything()
    again = build(name, "three", buildkit)
    remove_nameless(after)
    assert images(name) == after | again, "still another's"


@BUILDERS
def test_images_go_with_their_checkout(buildkit: str, name: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    elsewhere = build(f"{name}-elsewhere", "same", buildkit, f"another-machine:{checkout}")
    replaced = build(name, "one", buildkit, checkout_label(checkout))
    built = build(name, "two", buildkit, checkout_label(checkout))
    remove_images_of_vanished_checkouts()
    assert images(name) == elsewhere | built, "it is still there"
    checkout.rmdir()
    remove_images_of_vanished_checkouts()
    assert images(name) == elsewhere, "what another machine built is for its own runs to judge"
    assert not (built | replaced) & everything()


def test_the_images_of_a_run_that_was_killed_go_with_the_next_and_those_of_one_that_runs_stay() -> None:
    if reason := engine_missing():
        pytest.skip(reason)
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, runs = (
        f"gatehouse-e2e-{process}-{secrets.token_hex(3)}one" for process in (ended.pid, os.getpid())
    )
    try:
        for each in (killed, runs):
            build(each, "same", "1")
        remove_leftovers()
        assert not images(killed)
        assert images(runs)
    finally:
        for image in images(killed) | images(runs):
            run(["docker", "image", "rm", "--force", image])


def test_every_image_that_is_built_says_for_which_checkout() -> None:
    if reason := engine_missing():
        pytest.skip(reason)
    files = ("-f", str(CHECKOUT / "docker-compose.yml"), "-f", str(CHECKOUT / "tests-e2e/compose.yaml"))
    told = run(
        ["docker", "compose", *files, "config", "--format", "json"], environment={"E2E_CHECKOUT": "here"}
    )
    built = {part: one["build"] for part, one in json.loads(told)["services"].items() if "build" in one}
    assert {"gateway", "auth-service", "user-service"} <= set(built)
    assert {part: one["labels"] for part, one in built.items()} == {
        part: {CHECKOUT_LABEL: "here"} for part in built
    }


def build(name: str, said: str, buildkit: str, checkout: str = "") -> set[str]:
    """The ids that carry the name afterwards."""
    dockerfile = f"FROM scratch\nLABEL said={name}-{said}\n"
    run(
        ["docker", "build", "--tag", f"{name}-part", "--label", f"{CHECKOUT_LABEL}={checkout}", "-"],
        stdin=dockerfile,
        environment={"DOCKER_BUILDKIT": buildkit},
    )
    return set(run(["docker", "images", "--no-trunc", "--quiet", f"{name}-part"]).split())


def everything() -> set[str]:
    return set(run(["docker", "images", "--no-trunc", "--quiet", "--all"]).split())
