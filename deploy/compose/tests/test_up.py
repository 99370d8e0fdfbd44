"""`make up` shows why something is not ready, and says what its settings are called now."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKER = """#!/usr/bin/env bash
case "$*" in
  *"config --format json") echo '{"name": "of-a-test", "services": {}}' ;;
  *"config --hash"*) ;;
  *"port front 8000") exit 0 ;;
  *" up "*) exit 1 ;;
  *"ps --all --format {{.Service}}"*)
    echo "auth-service unhealthy 0"; echo "redis healthy 0"; echo "secrets  0"
    echo "user-service  2"; echo "gateway starting 0" ;;
  *" logs "*) echo "$*" ;;
esac
"""


def up(folder: Path, *said: str) -> tuple[int, str]:
    """How `make up` ends, and what it says."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    done = subprocess.run(
        ["make", "--silent", "up", "PROJECT=of-a-test", *said],
        cwd=ROOT,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_whatever_is_not_well_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    code, said = up(tmp_path)
    assert code == 2
    assert "logs --tail 15 auth-service gateway user-service" in said


def test_how_many_run_is_a_setting_of_each_service(tmp_path: Path) -> None:
    code, said = up(tmp_path, "SCALE=2")
    assert code == 2
    assert "USER_SERVICE_REPLICAS=" in said
