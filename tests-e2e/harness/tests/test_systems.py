"""The embedded system's start and end, with a stand-in for its supervisor, and reasons instead of guesses."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse_e2e.api import Api, Refused
from gatehouse_e2e.systems import CommandFailed, Embedded, NotHere, System, run

from .conftest import answer, http_server

SUPERVISOR = """
import os, signal, sys
if sys.argv[1] == "exec":
    sys.exit(0 if sys.argv[2:] == ["user-service", "--", "python", "-m", "user_service.cli", "admin", "a@b"] else 9)
print(f"Gatehouse is up: http://localhost:{os.environ['PORT']}    mail it sends: http://localhost:1", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
"""


def checkout(folder: Path, script: str) -> Path:
    file = folder / "deploy/embedded/run.py"
    file.parent.mkdir(parents=True)
    file.write_text(script)
    return folder


def test_the_embedded_system_is_started_used_and_leaves_nothing(tmp_path: Path) -> None:
    system = Embedded.start(checkout(tmp_path, SUPERVISOR))
    assert system.mail_url == "http://localhost:1"
    system.make_admin("a@b")
    system.keep_evidence(tmp_path / "kept")
    assert "Gatehouse is up" in (tmp_path / "kept/system.log").read_text()
    system.stop()
    assert not system.folder.exists()


def test_a_system_that_ends_at_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="port 80 is in use"):
        Embedded.start(checkout(tmp_path, "raise SystemExit('gatehouse: port 80 is in use')"))


def test_a_deployed_system_says_what_it_cannot_do() -> None:
    with pytest.raises(NotHere, match="command on the system's side"):
        System("https://gatehouse.example").make_admin("a@b")


def test_who_is_limited_waits_for_their_turn_where_addresses_are_not_believed() -> None:
    turns = iter(
        [answer(429, {}, "Retry-After: 0"), answer(429, {}, "Retry-After: 0"), answer(201, {"id": "1"})]
    )
    with http_server(lambda *_: next(turns)) as url, Api(url, in_turn=True) as api:
        assert api.register("a@people.example", "Ada", "a password")["id"] == "1"
    with http_server(lambda *_: answer(429, {}, "Retry-After: 600")) as url, Api(url, in_turn=True) as api:
        with pytest.raises(Refused) as refusal:
            api.register("a@people.example", "Ada", "a password")
        assert refusal.value.status == 429


def test_a_command_that_fails_shows_what_it_said() -> None:
    with pytest.raises(CommandFailed, match="no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"])
