"""The folder of an embedded system: nobody else on the machine reads what is in it."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from run import occupied
with occupied(Path({var!r})):
    Path({var!r}, "ours").write_text("")
    child = "import os; open('theirs', 'w').close(); os.makedirs('deep/er')"
    subprocess.run([sys.executable, "-c", child], cwd={var!r}, check=True)
"""


def occupy(var: Path) -> None:
    source = SOURCE.format(here=str(Path(__file__).parents[1]), var=str(var))
    subprocess.run(["/bin/sh", "-c", 'umask 022; exec "$0" -c "$1"', sys.executable, source], check=True)


def modes(var: Path) -> dict[str, int]:
    return {str(each.relative_to(var)): each.stat().st_mode & 0o777 for each in (var, *var.rglob("*"))}


@pytest.mark.parametrize("already", ["absent", "empty", "of an earlier start"])
def test_what_any_part_writes_is_its_owners_alone(tmp_path: Path, already: str) -> None:
    var = tmp_path / "var"
    if already != "absent":
        var.mkdir(mode=0o755)
    if already == "of an earlier start":
        (var / "lock").touch(0o600)
    occupy(var)
    assert modes(var) == {
        ".": 0o700,
        "lock": 0o600,
        "ours": 0o600,
        "theirs": 0o600,
        "deep": 0o700,
        "deep/er": 0o700,
    }


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.mkdir(mode=0o755)
    (var / "somebody's").touch()
    occupy(var)
    assert modes(var)["."] == 0o755
    assert modes(var)["ours"] == 0o600
