"""What a run leaves of its images: one set for each checkout, whichever builder made it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_e2e.compose import engine_missing, images, images_of, remove_nameless
from gatehouse_e2e.systems import run


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


@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic builder", "BuildKit"])
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


def build(name: str, said: str, buildkit: str) -> set[str]:
    """The ids that carry the name afterwards."""
    dockerfile = f"FROM scratch\nLABEL said={name}-{said}\n"
    run(
        ["docker", "build", "--tag", f"{name}-part", "-"],
        stdin=dockerfile,
        environment={"DOCKER_BUILDKIT": buildkit},
    )
    return set(run(["docker", "images", "--no-trunc", "--quiet", f"{name}-part"]).split())


def everything() -> set[str]:
    return set(run(["docker", "images", "--no-trunc", "--quiet", "--all"]).split())
