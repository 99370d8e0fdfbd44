"""What docker and compose say of one project, and the few things that are done to its containers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LABEL: Final = "com.docker.compose"
LAST_LINES: Final = 20
# What never served has nothing to finish; what did has its stop_grace_period.
END_SECONDS: Final = 10


@dataclass(frozen=True)
class Container:
    """One container of a service, as it was when it was looked at."""

    id: str
    service: str
    image: str
    configuration: str  # compose's hash of the configuration that it was made with
    created: str
    started: str
    status: str
    exit_code: int
    health: str  # empty: its image has no check
    restarts: int
    start_period: float

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.status == "running" and self.health in ("", "healthy")

    @property
    def fault(self) -> str:
        """Why it will not become ready; empty while it may."""
        if self.restarts:
            return "ends again and again"
        if self.status not in ("created", "running"):
            return f"ended with exit code {self.exit_code}"
        return "is unhealthy" if self.health == "unhealthy" else ""


def read(state: Mapping[str, Any]) -> Container:
    """A container from what `docker inspect` says of it."""
    labels, now = state["Config"]["Labels"], state["State"]
    health = (now.get("Health") or {}).get("Status", "")
    return Container(
        id=state["Id"],
        service=labels[f"{LABEL}.service"],
        image=state["Image"],
        configuration=labels[f"{LABEL}.config-hash"],
        created=state["Created"],
        started=now["StartedAt"],
        status=now["Status"],
        exit_code=now["ExitCode"],
        health="" if health == "none" else health,
        restarts=state["RestartCount"],
        start_period=(state["Config"].get("Healthcheck") or {}).get("StartPeriod", 0) / 1e9,
    )


class Docker:
    """The docker command line for one project. What it starts keeps `lock` open until it ends, orphaned or not."""

    def __init__(self, project: str, lock: int | None = None) -> None:
        self._compose = ["compose", *(["--project-name", project] if project else [])]
        self._open = () if lock is None else (lock,)

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Its standard output; CalledProcessError with what it said when it fails."""
        return subprocess.run(
            ["docker", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            pass_fds=self._open,
        ).stdout

    def compose(self, *arguments: str, stdin: str | None = None) -> str:
        """The same for compose."""
        return self.run(*self._compose, *arguments, stdin=stdin)

    def compose_aloud(self, *arguments: str) -> bool:
        """Let compose itself tell whoever watches; whether it ended well."""
        command = ["docker", *self._compose, *arguments]
        return subprocess.run(command, check=False, pass_fds=self._open).returncode == 0

    def configuration(self) -> dict[str, Any]:
        """The compose files as compose understands them."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return found

    def hashes(self, configuration: Mapping[str, Any]) -> dict[str, str]:
        """Service -> the hash of its configuration, as containers made of it are labelled.

        Asked for by itself, `config --hash` leaves out what a service's env_file says; `up` does not.
        """
        lines = self.compose("-f", "-", "config", "--hash", "*", stdin=json.dumps(configuration))
        return dict(line.split(" ", 1) for line in lines.splitlines())

    def containers(self, project: str) -> list[Container]:
        """Everything that compose made for the project, ended or not; not what `compose run` did."""
        mine = (f"{LABEL}.project={project}", f"{LABEL}.oneoff=False")
        return self.inspect(self.run("ps", "-aq", *(f"--filter=label={one}" for one in mine)).split())

    def inspect(self, ids: Sequence[str]) -> list[Container]:
        """These as they are now."""
        return [read(state) for state in json.loads(self.run("inspect", *ids))] if ids else []

    def image(self, name: str) -> str:
        """The id of the image that has this name; empty when none has."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.run("image", "inspect", "--format", "{{.Id}}", name).strip()
        return ""

    def label(self, image: str, name: str) -> str:
        """What a label of an image says; empty where it has none."""
        template = f'{{{{index .Config.Labels "{name}"}}}}'
        return self.run("image", "inspect", "--format", template, image).strip()

    def release(self, image: str) -> str:
        """What an image is called, in words."""
        version = self.label(image, "org.opencontainers.image.version")
        revision = self.label(image, "org.opencontainers.image.revision")
        return (
            f"{version}+{revision}" if revision else f"image {self.image(image).removeprefix('sha256:')[:8]}"
        )

    def untag(self, name: str) -> None:
        """Take a name away; that it is not there, or that something runs from it, is no fault."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("rmi", name)

    def remove_nameless(self, image: str) -> None:
        """An image that no name leads to any more."""
        with contextlib.suppress(subprocess.CalledProcessError):
            if self.run("image", "inspect", "--format", "{{len .RepoTags}}", image).strip() == "0":
                self.run("rmi", image)

    def last_lines(self, container: Container) -> str:
        """The end of its log, both streams as they came."""
        command = ["docker", "logs", "--tail", str(LAST_LINES), container.id]
        said = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return "".join(f"    {line}\n" for line in said.stdout.splitlines()[-LAST_LINES:])

    def retire(self, containers: Iterable[Container]) -> None:
        """Those that serve: one by one, each until it has finished."""
        for one in containers:
            self.run("stop", one.id)
            self.run("rm", "--force", one.id)

    def remove(self, containers: Sequence[Container]) -> None:
        """Those that do not: all at once."""
        if running := [one.id for one in containers if one.status == "running"]:
            self.run("stop", "--time", str(END_SECONDS), *running)
        if containers:
            self.run("rm", "--force", *(one.id for one in containers))
