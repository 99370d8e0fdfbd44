"""What CI runs of others' is named by commit: a tag can be moved to other code."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")


def test_every_action_of_others_is_named_by_a_commit_and_its_release() -> None:
    used = [
        (file.name, line.strip())
        for file in WORKFLOWS
        for line in re.findall(r"uses: *(.*)", file.read_text("utf-8"))
    ]
    assert [line for line in used if not line[1].startswith("./") and not PINNED.fullmatch(line[1])] == []
    assert sum("actions/checkout@" in line for _, line in used) > 2


def test_one_release_of_an_action_is_used_everywhere() -> None:
    pins = {pin for file in WORKFLOWS for pin in re.findall(r"uses: (\S+@\S+)", file.read_text("utf-8"))}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


def test_ci_tries_every_python_from_the_oldest_that_projects_allow() -> None:
    matrix = re.findall(
        r'"(3\.\d+)"', (ROOT / ".github/workflows/project.yml").read_text("utf-8").partition("steps:")[0]
    )
    oldest, newest = (int(release.removeprefix("3.")) for release in (matrix[0], matrix[-1]))
    assert matrix == [f"3.{minor}" for minor in range(oldest, newest + 1)]
    projects = [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("deploy/scaffold/*/pyproject.toml")]
    allowed = {tomllib.loads(file.read_text("utf-8"))["project"]["requires-python"] for file in projects}
    assert allowed == {f">={matrix[0]}"}
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert f"runs on Python {matrix[0]} to {matrix[-1]}." in page
