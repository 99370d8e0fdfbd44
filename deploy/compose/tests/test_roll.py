"""`make roll` changes nothing that serves until the new release is ready, by a docker that only takes notes."""

import os
import subprocess
from pathlib import Path

ROLL = Path(__file__).parents[1] / "roll"
DOCKER = """#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
  *"ps --quiet auth-service") echo old ;;
  *"ps --all --quiet auth-service") printf 'old\\nnew\\n' ;;
  *"ps --quiet redis") echo redis ;;
  *"port auth-service 8000") exit 1 ;;
  "inspect --format {{.State.StartedAt}} redis") echo 2026-11-30T15:00:00Z ;;
  "exec redis find /run/secrets/users.acl -newermt 2026-11-30T15:00:00Z") echo "$NEWER" ;;
  *" up "*) exit "$UP" ;;
  "logs --tail 15 new") echo "why it is not ready" ;;
esac
"""


def roll(folder: Path, *, newer: str = "", up: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    for name, text in (("docker", DOCKER), ("sleep", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [ROLL, "auth-service"],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "NEWER": newer, "UP": str(up)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, (folder / "calls").read_text().splitlines()


def test_the_old_containers_go_once_the_new_are_ready(tmp_path: Path) -> None:
    done, calls = roll(tmp_path)
    assert done.returncode == 0, done.stderr
    assert calls[-2:] == ["stop --time 35 old", "rm old"]
    assert not [call for call in calls if call.endswith(" new")]


def test_a_release_that_does_not_become_ready_is_taken_back_and_the_old_one_stays(tmp_path: Path) -> None:
    """Its name led to it, ready or not: half of all sign-ins were given to it for as long as it stood there."""
    done, calls = roll(tmp_path, up=1)
    assert done.returncode == 1
    assert calls[-2:] == ["stop --time 35 new", "rm new"]
    assert "stop --time 35 old" not in calls
    assert "why it is not ready" in done.stderr + done.stdout


def test_nothing_is_rolled_while_redis_has_the_users_of_before(tmp_path: Path) -> None:
    done, calls = roll(tmp_path, newer="/run/secrets/users.acl")
    assert done.returncode == 1
    assert done.stderr.endswith("First: docker compose restart redis\n")
    assert not [call for call in calls if " up " in call or call.startswith("stop")]
