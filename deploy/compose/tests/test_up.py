"""`make up` restarts what would not notice a new release, and shows why something is not ready."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKER = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  *"ps --quiet redis redis-limits") echo redis ;;
  *"ps --quiet redis") echo redis ;;
  inspect*) echo 2026-11-30T15:00:00Z ;;
  "exec redis find "*) echo "$NEWER" ;;
  *"port front 8000") exit 0 ;;
  *" up "*) exit "$UP" ;;
  *"ps --all --format"*)
    echo "auth-service unhealthy 0"; echo "redis healthy 0"; echo "secrets  0"
    echo "user-service  2"; echo "gateway starting 0" ;;
esac
"""


def up(folder: Path, *, newer: str = "", fails: bool = False) -> list[str]:
    """What `make up` asked docker for."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    calls = folder / "calls"
    said = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "NEWER": newer,
        "UP": str(int(fails)),
    }
    done = subprocess.run(
        ["make", "--silent", "up", "PROJECT=of-a-test"],
        cwd=ROOT,
        env=said,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return [call.replace("compose -p of-a-test ", "") for call in calls.read_text().splitlines()]


def test_a_redis_with_the_users_of_before_is_restarted_first(tmp_path: Path) -> None:
    calls = up(tmp_path, newer="/run/secrets/users.acl")
    assert calls.index("run --rm --no-deps secrets") < calls.index("restart redis") < len(calls) - 1


def test_a_redis_with_todays_users_goes_on(tmp_path: Path) -> None:
    assert not [call for call in up(tmp_path) if call.startswith("restart")]


def test_whatever_is_not_well_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    assert up(tmp_path, fails=True)[-1] == "logs --tail 15 auth-service gateway user-service"
