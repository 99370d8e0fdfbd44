"""Each folder is a compose project of its own; a command says on which it acts, and touches none of another folder."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# `folders` and `volumes` have lines of a project and one of its folders or volumes.
DOCKER = """#!/usr/bin/env bash
of() { sed -n "s/^${4#label=com.docker.compose.project=} //p" "$1"; }
case "$*" in
  "ps --all"*) of "$FAKES/folders" "${@:2}" ;;
  "volume ls"*) of "$FAKES/volumes" "${@:3}" ;;
  *"ps --quiet auth-service") echo a-container ;;
esac
echo "$*" >>"$FAKES/calls"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of a checkout names its project, in a folder that has a name of its own."""
    folder = tmp_path / "My App.2"
    for script in ("deploy/compose/acts_on", "deploy/compose/project_name", "deploy/exec"):
        (folder / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / script, folder / script)
    (folder / "docker-compose.yml").write_text("services: {a: {image: a}}")
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "folders").touch()
    (tmp_path / "volumes").touch()
    return folder


def say(checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    fakes = checkout.parent
    passed_on = {"PATH": f"{fakes}:{os.environ['PATH']}", "FAKES": str(fakes)}
    return subprocess.run(
        command, cwd=checkout, env=passed_on | environment, capture_output=True, text=True, check=False
    )


def acts_on(checkout: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    done = say(checkout, "deploy/compose/acts_on", *arguments, **environment)
    assert not done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize("folder", ["My App.2", "gatehouse", "__Gate-House_", "0.1.0", "Sämtliches"])
@pytest.mark.parametrize(
    "env", ["", "COMPOSE_PROJECT_NAME=", "export COMPOSE_PROJECT_NAME = 'second' # ours"]
)
def test_a_project_has_the_name_that_compose_would_give_it(
    folder: str, env: str, tmp_path: Path, render_project: Callable[[Path], dict[str, Any]]
) -> None:
    (tmp_path / folder / "deploy/compose").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/compose/project_name", tmp_path / folder / "deploy/compose")
    (tmp_path / folder / "docker-compose.yml").write_text("services: {a: {image: a}}")
    (tmp_path / folder / ".env").write_text(env)
    named = subprocess.run(
        [tmp_path / folder / "deploy/compose/project_name"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert named.stdout == render_project(tmp_path / folder)["name"] + "\n"


def test_no_file_of_compose_fixes_the_name_of_the_project() -> None:
    files = [ROOT / "docker-compose.yml", *ROOT.glob("*/compose.yaml"), *ROOT.glob("deploy/compose/*.yaml")]
    for file in files:
        text = file.read_text()
        assert not [line for line in text.splitlines() if line.startswith("name:")], file
        assert "${COMPOSE_PROJECT_NAME:-" not in text, file


def test_a_command_says_on_which_project_it_acts(checkout: Path) -> None:
    assert acts_on(checkout) == (0, f"on the containers of project myapp2, from {checkout}\n")
    assert "project other, from" in acts_on(checkout, PROJECT="other")[1]


def test_the_containers_of_another_folder_are_not_touched(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "folders").write_text(f"myapp2 {checkout}\nshared {tmp_path}\n")
    assert acts_on(checkout)[0] == 0
    code, line = acts_on(checkout, PROJECT="shared")
    assert (code, line.count("\n")) == (2, 1)
    assert f"run from {tmp_path}: go there, or choose another name with PROJECT=" in line
    done = say(checkout, "deploy/exec", "auth-service", "true", PROJECT="shared", ON="containers")
    assert done.returncode == 2
    assert not [call for call in (tmp_path / "calls").read_text().splitlines() if " exec " in call]


def test_a_folder_that_was_renamed_keeps_its_containers(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "folders").write_text(f"myapp2 {tmp_path / 'its former name'}\n")
    assert acts_on(checkout)[0] == 0


def test_a_link_to_the_folder_is_the_folder(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(checkout)
    (tmp_path / "folders").write_text(f"myapp2 {tmp_path / 'current'}\n")
    assert acts_on(checkout)[0] == 0


def test_a_folder_whose_name_makes_none_asks_for_one(checkout: Path) -> None:
    code, line = acts_on(checkout.rename(checkout.with_name("__")))
    assert (code, line.count("\n")) == (2, 1)
    assert "choose one with PROJECT=" in line


def test_a_start_does_not_leave_the_data_of_an_earlier_name_behind(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text(
        "gatehouse gatehouse_mysql-data\ngatehouse gatehouse_avatars\ngatehouse gatehouse_secrets-mysql\n"
    )
    code, line = acts_on(checkout, "start")
    assert (code, line.count("\n")) == (2, 1)
    assert "gatehouse_mysql-data gatehouse_avatars (and gatehouse_secrets-*)" in line
    assert "COMPOSE_PROJECT_NAME=gatehouse goes on with them, COMPOSE_PROJECT_NAME=myapp2 begins anew" in line
    assert acts_on(checkout)[0] == 0  # only a start makes new ones
    assert acts_on(checkout, "start", PROJECT="named")[0] == 0
    for chosen in ("gatehouse", "myapp2"):
        (checkout / ".env").write_text(f"COMPOSE_PROJECT_NAME={chosen}\n")
        assert f"project {chosen}," in acts_on(checkout, "start")[1]


@pytest.mark.parametrize("left", ["myapp2 myapp2_mysql-data", "gatehouse gatehouse_routes"])
def test_a_start_asks_only_once_and_only_for_data(left: str, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text(f"{left}\n")
    assert acts_on(checkout, "start")[0] == 0


def test_the_data_of_a_checkout_that_is_called_gatehouse_is_its_own(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text("gatehouse gatehouse_mysql-data\n")
    (tmp_path / "folders").write_text(f"gatehouse {tmp_path}\n")
    assert acts_on(checkout, "start")[0] == 0


def test_every_verb_that_acts_on_containers_says_on_which_first() -> None:
    """A new one cannot forget it."""
    rules = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    acting = {
        verb: recipe
        for verb, recipe in rules
        if re.search(r"\$\(compose\)|deploy/compose/(roll|remove|stale_redis)", recipe)
    }
    assert {"up", "roll", "remove", "down", "logs", "ps", "clean"} <= acting.keys()
    for verb, recipe in acting.items():
        says = re.search(r"\$\(containers\)|\$\(call containers,start\)|deploy/compose/acts_on", recipe)
        does = re.search(r"\$\(compose\)|deploy/compose/(roll|remove|stale_redis)", recipe)
        assert says, verb
        assert does, verb
        assert says.start() < does.start(), verb
