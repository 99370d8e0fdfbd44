"""One project of compose as it is here and as it runs, and why a change of it ends early."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from containers import Container, Docker

ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(Exception):
    """Nothing was changed; its text says why, and what to do."""


class Failed(Exception):
    """The new release does not serve; its text says why."""


@dataclass(frozen=True)
class Service:
    """One entry of the compose files."""

    name: str
    image: str  # its name, without a tag where it is built here
    build: dict[str, Any] | None
    replicas: int
    published: bool  # it owns a port of the machine, so no second one starts beside it
    one_shot: bool
    needs: tuple[str, ...]

    @property
    def rollable(self) -> bool:
        return bool(self.build) and not self.published

    def tag(self, name: str) -> str:
        return f"{self.image}:{name}"


def read_service(name: str, said: dict[str, Any]) -> Service:
    return Service(
        name=name,
        image=said.get("image", ""),
        build=said.get("build"),
        replicas=(said.get("deploy") or {}).get("replicas", 1),
        published=bool(said.get("ports")),
        one_shot=said.get("restart") == "no",
        needs=tuple(said.get("depends_on") or ()),
    )


class Project:
    """What is wanted, by the compose files, and what is there, by the engine."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self._configuration = configuration = docker.configuration()
        self.name: str = configuration["name"]
        self.services = {name: read_service(name, said) for name, said in configuration["services"].items()}
        if none := [one.name for one in self.services.values() if one.rollable and one.replicas < 1]:
            name = f"{none[0].upper().replace('-', '_')}_REPLICAS"
            raise Refused(f"{name} is below 1, and would stop all that {none[0]} has")

    @cached_property
    def hashes(self) -> dict[str, str]:
        return self.docker.hashes(self._configuration)

    def containers(self, *services: str) -> list[Container]:
        return [one for one in self.docker.containers(self.name) if one.service in services]

    def with_needs(self, names: Iterable[str]) -> list[str]:
        """These services and all that they depend on, each after what it needs."""
        found: list[str] = []
        for name in names:
            found += [one for one in self.with_needs(self.services[name].needs) if one not in found]
            found += [] if name in found else [name]
        return found

    def one_shots(self, service: str) -> list[str]:
        """What must have ended well before the service starts; its routes are published once it is ready."""
        needs = self.with_needs([service])
        return [one for one in needs if self.services[one].one_shot and one != routes_of(service)]

    def needs_a_build(self, service: Service) -> bool:
        """Whether it is built here, or depends on what is."""
        return any(self.services[name].build for name in self.with_needs([service.name]))

    def changed(self, container: Container) -> bool:
        """Whether compose would make another in its place: it compares the image behind the name, too."""
        service = self.services[container.service]
        return container.configuration != self.hashes[service.name] or container.image != self.docker.image(
            service.image
        )


def routes_of(service: str) -> str:
    """The one-shot that publishes a service's routes."""
    return f"{service}-routes"


def hear_nobody() -> None:
    """What was begun is taken back first, however impatient anybody is."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)


def say(line: str) -> None:
    print(line, flush=True)


def warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
