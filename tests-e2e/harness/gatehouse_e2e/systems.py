"""The system under test: somebody's URL, the embedded system, or containers of our own (compose.py)."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .waiting import until

START_SECONDS = 120
STOP_SECONDS = 40


class NotHere(Exception):
    """This kind of system cannot do that; its text is the reason a test skips with."""


@dataclass
class System:
    """Where a system answers, and what else of it can be reached."""

    url: str
    # A second gateway that believes no proxy, the default; None where there is none.
    plain_url: str | None = None
    mail_url: str | None = None
    # Whether X-Forwarded-For from our address is believed, so that people do not share limits.
    believes_addresses: bool = False

    def make_admin(self, email: str) -> None:
        raise NotHere(
            f"making an administrator takes a command on the system's side, and this one is {self.url}"
        )

    def logs(self) -> dict[str, str]:
        """What each part has logged so far."""
        raise NotHere(f"the logs of {self.url} are out of reach")

    def keep_evidence(self, folder: Path) -> None:
        """Write what explains a failure into `folder`: logs and states, as far as there are any."""

    def stop(self) -> None:
        """End what was started, nothing for a system that was there before."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Embedded(System):
    """`make run` in a state folder of its own, ended and removed with the run."""

    checkout: Path = Path()
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gatehouse-e2e-")))
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, checkout: Path, **settings: str) -> Embedded:
        system = cls("", checkout=checkout, believes_addresses=True)
        environment = {
            **os.environ,
            "PORT": "0",
            "VAR": str(system.folder / "var"),
            "TRUSTED_PROXIES": "127.0.0.0/8",
            **settings,
        }
        log = (system.folder / "system.log").open("wb")
        with log:
            system._process = subprocess.Popen(
                [*system._command("run")], cwd=checkout, env=environment, stdout=log, stderr=log
            )
        try:
            system._wait_ready()
        except BaseException:
            system.stop()
            raise
        return system

    def make_admin(self, email: str) -> None:
        command = self._command(
            "exec", "user-service", "--", "python", "-m", "user_service.cli", "admin", email
        )
        run(command, cwd=self.checkout, environment={"VAR": str(self.folder / "var")})

    def logs(self) -> dict[str, str]:
        return {"system": self._log()}

    def keep_evidence(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / "system.log", folder / "system.log")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, *arguments: str) -> list[str]:
        return [
            shutil.which("python3") or "python3",
            str(self.checkout / "deploy/embedded/run.py"),
            *arguments,
        ]

    def _wait_ready(self) -> None:
        process = self._process
        assert process is not None

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the embedded system ended at start:\n{self._log()[-3000:]}")
            return "Gatehouse is up: " in self._log()

        try:
            until(ready, START_SECONDS, "the embedded system ready", every=0.1)
        except AssertionError as error:
            raise RuntimeError(f"{error}\n{self._log()[-3000:]}") from None
        said = re.search(r"Gatehouse is up: (\S+) .* mail it sends: (\S+)", self._log())
        assert said is not None
        self.url, self.mail_url = said[1], said[2]

    def _log(self) -> str:
        return (self.folder / "system.log").read_text(errors="replace")


def copy_checkout(checkout: Path, folder: Path) -> Path:
    """Another checkout, with nothing in it that a run has made: to be changed, or to stand beside this one."""
    made = shutil.ignore_patterns(
        ".git", ".venv", ".tools", ".*_cache", ".hypothesis", "__pycache__", "var*", "report*"
    )
    return Path(shutil.copytree(checkout, folder, ignore=made))


class CommandFailed(RuntimeError):
    """A command of ours ended badly; its output is in the text."""


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    seconds: float = 60,
    stdin: str | None = None,
    apart: bool = False,
) -> str:
    """The command's standard output; CommandFailed with everything it said when it did not end well.

    What runs `apart` does not hear the terminal's Ctrl-C.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        start_new_session=apart,
    )
    if done.returncode:
        raise CommandFailed(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def run_id() -> str:
    """Names one run, so that two beside each other never meet."""
    return f"{os.getpid()}-{secrets.token_hex(3)}"
