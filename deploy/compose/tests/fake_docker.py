"""docker, as far as roll.py asks it: containers and the names of images, and a note of each call."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from containers import Container, Docker


class FakeDocker(Docker):
    """An engine that is a few dictionaries. A container that begins is ready at once, unless `begins` says otherwise."""

    def __init__(self, **state: Any) -> None:
        super().__init__("")
        self.services: dict[str, Any] = state["services"]
        self.there: dict[str, dict[str, Any]] = {name: dict(one) for name, one in state["there"].items()}
        self.images: dict[str, str] = dict(state["images"])
        self.built: str = state["built"]
        self.begins: dict[str, Any] = state["begins"]
        self.newer: str = state["newer"]
        self.calls: list[str] = []

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        self.calls.append(" ".join(arguments))
        if arguments[0] == "compose":
            return self._composed([*arguments[1:]])
        return self._answer([*arguments])

    def compose_aloud(self, *arguments: str) -> bool:
        self.calls.append(" ".join(("compose", *arguments)))
        return True

    def last_lines(self, container: Container) -> str:
        return f"the last lines of {container.service}"

    def _composed(self, said: list[str]) -> str:
        match said:
            case ["config", "--format", "json"]:
                return json.dumps({"name": "of-a-test", "services": self.services})
            case ["-f", "-", "config", "--hash", "*"]:
                return "\n".join(f"{name} hash" for name in self.services)
            case ["build", *_, name]:
                self.images[f"of-a-test-{name}:latest"] = self.built
            case ["up", "--detach", *_, "--scale", count, name]:
                self._begin(name, int(count.partition("=")[2]))
            case ["up", "--detach", "--no-build", "--no-recreate", *names]:
                for name in names:
                    self._begin(name, 1)
        return ""

    def _begin(self, name: str, count: int) -> None:
        """As many containers of the service as that, the new ones of its latest image."""
        if name in self.begins and self.begins[name] is None:
            return
        while sum(one["service"] == name for one in self.there.values()) < count:
            image = self.images.get(f"of-a-test-{name}:latest", "sha256:other")
            new = {"service": name, "image": image, **self.begins.get(name, {})}
            self.there[f"c{max((int(one[1:]) for one in self.there), default=0) + 1}"] = new

    def _answer(self, said: list[str]) -> str:
        match said:
            case ["ps", "-aq", *_]:
                return "\n".join(self.there)
            case ["inspect", *ids]:
                return json.dumps([inspected(one, self.there[one]) for one in ids])
            case ["rm", "--force", *ids]:
                for one in ids:
                    del self.there[one]
            case ["exec", _, "find", *_]:
                return self.newer
            case _:
                return self._named(said)
        return ""

    def _named(self, said: list[str]) -> str:
        match said:
            case ["image", "inspect", "--format", "{{.Id}}", name]:
                if whole(name) not in self.images:
                    raise subprocess.CalledProcessError(1, said)
                return self.images[whole(name)]
            case ["image", "inspect", "--format", template, _]:
                return "0" if "RepoTags" in template else "1.2.3"
            case ["tag", image, name]:
                self.images[whole(name)] = self.images.get(image, image)
            case ["rmi", name]:
                self.images.pop(name, None)
        return ""


def whole(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def inspected(name: str, one: dict[str, Any]) -> dict[str, Any]:
    """What `docker inspect` says of it."""
    ended = one.get("exit") is not None
    return {
        "Id": name,
        "Image": one["image"],
        "Created": f"2026-11-30T15:00:{int(name[1:]):02}Z",
        "RestartCount": 0,
        "Config": {
            "Labels": {
                "com.docker.compose.service": one["service"],
                "com.docker.compose.config-hash": one.get("hash", "hash"),
            },
        },
        "State": {
            "Status": "exited" if ended else "running",
            "ExitCode": one.get("exit") or 0,
            "StartedAt": "2026-11-30T15:00:00Z",
            "Health": {"Status": one.get("health", "healthy")},
        },
    }
