"""Two checkouts on one engine, started at the same moment: each is a system of its own, and every command says which."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from gatehouse_e2e.api import Api, Refused
from gatehouse_e2e.compose import PROJECT_LABEL, Compose
from gatehouse_e2e.plugin import PromiseFixture
from gatehouse_e2e.systems import CommandFailed, free_port, run, run_id

MADE = shutil.ignore_patterns(
    ".*_cache", ".venv", ".git", ".tools", ".env", "node_modules", "var*", "report*", "__pycache__"
)
SECONDS = 900
PASSWORD = "a long enough passphrase"


class Clone:
    """A checkout in a folder of its own, with nothing said but a port."""

    def __init__(self, of: Path, folder: Path) -> None:
        shutil.copytree(of, folder, ignore=MADE)
        self.folder = folder
        self.port = free_port()
        self.project = run([str(folder / "deploy/compose/project_name")]).strip()

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        nothing_else = {
            name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ
        }
        return subprocess.run(
            ["make", *words],
            cwd=self.folder,
            env=nothing_else,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.make("up", f"PORT={self.port}")

    def own(self, *listed: str) -> set[str]:
        """What the engine has of this project."""
        return set(
            run(["docker", *listed, "--quiet", "--filter", f"label={PROJECT_LABEL}={self.project}"]).split()
        )

    def folders(self) -> set[str]:
        """Those from which its containers were started."""
        form = f'{{{{index .Config.Labels "{PROJECT_LABEL}.working_dir"}}}}'
        return set(run(["docker", "inspect", "--format", form, *self.own("ps", "--all")]).splitlines())

    def remove(self) -> None:
        self.make("down", "ARGS=--volumes --timeout 3")

    def forget(self) -> None:
        self.remove()
        images = run(
            ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{self.project}-*"]
        ).split()
        if images:
            with suppress(CommandFailed):
                run(["docker", "image", "rm", *images])


@pytest.fixture
def clones(parts: Compose, tmp_path: Path) -> Iterator[tuple[Clone, Clone]]:
    both = [Clone(parts.checkout, tmp_path / f"gatehouse-e2e-{run_id()}.{name}") for name in ("One", "two")]
    yield both[0], both[1]
    for clone in both:
        clone.forget()


def test_two_checkouts_that_start_at_the_same_moment_never_meet(
    clones: tuple[Clone, Clone], promise: PromiseFixture, full: bool
) -> None:
    for _ in range(10 if full else 1):
        with ThreadPoolExecutor(2) as pool:
            for clone, done in zip(clones, pool.map(Clone.up, clones), strict=True):
                assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
                assert_says(clone, done)
        one, two = clones
        for listed in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
            assert one.own(*listed)
            assert two.own(*listed)
            promise(
                "two checkouts: what both have", len(one.own(*listed) & two.own(*listed)), at_most=0, unit=""
            )
        for clone in clones:
            assert clone.folders() == {str(clone.folder)}
        a_person_of_one_is_nobody_to_the_other(one, two)
        a_command_reaches_its_own(one, two)
        for clone in clones:
            clone.remove()
        assert not one.own("ps", "--all") | two.own("ps", "--all")


def assert_says(clone: Clone, done: subprocess.CompletedProcess[str]) -> None:
    assert f"on the containers of project {clone.project}, from {clone.folder}\n" in done.stderr


def a_person_of_one_is_nobody_to_the_other(one: Clone, two: Clone) -> None:
    with Api(f"http://localhost:{one.port}") as here, Api(f"http://localhost:{two.port}") as there:
        here.register("ada@example.com", "Ada", PASSWORD)
        tokens = here.sign_in("ada@example.com", PASSWORD)
        with pytest.raises(Refused):
            there.sign_in("ada@example.com", PASSWORD)
        assert here.me(tokens).json()["email"] == "ada@example.com"
        with pytest.raises(Refused):
            there.me(tokens)


def a_command_reaches_its_own(one: Clone, two: Clone) -> None:
    promoted, unknown = one.make("admin", "EMAIL=ada@example.com"), two.make("admin", "EMAIL=ada@example.com")
    assert promoted.returncode == 0, promoted.stderr
    assert "user_not_found" in unknown.stderr
    for clone, done in ((one, promoted), (two, unknown)):
        assert_says(clone, done)
    for verb in ("clients", "keys", "routes", "ps"):
        done = two.make(verb)
        assert done.returncode == 0, done.stderr
        assert_says(two, done)
    before = one.own("ps")
    for command in (("clients",), ("down", "ARGS=--volumes"), ("up", f"PORT={free_port()}"), ("clean",)):
        done = two.make(*command, f"PROJECT={one.project}")
        assert done.returncode != 0
        assert f"refused: the containers of project {one.project} run from {one.folder}" in done.stderr
    assert one.own("ps") == before
