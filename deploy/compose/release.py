"""What a build is called: version, revision and source of a service, in its image's labels and tags."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Release:
    """Of the files that go into one image. A commit elsewhere is no new release of it."""

    version: str
    revision: str  # `dev` outside git
    dirty: bool
    source: str

    def arguments(self) -> list[str]:
        """For `docker compose build`."""
        revision = f"{self.revision}-dirty" if self.dirty else self.revision
        said = {"VERSION": self.version, "REVISION": revision, "SOURCE": self.source}
        return [part for name, value in said.items() for part in ("--build-arg", f"{name}={value}")]


def read_release(build: Mapping[str, Any]) -> Release:
    """From the `build` of a service in compose's configuration."""
    context = Path(build["context"])
    dockerfile = context / build.get("dockerfile", "Dockerfile")
    files = [dockerfile, *_sent(context, dockerfile)]
    revision = _git(context, "log", "-1", "--format=%h", "--abbrev=7", "--", *map(str, files))
    return Release(
        version=_version(dockerfile.parent / "pyproject.toml"),
        revision=revision or "dev",
        dirty=bool(revision) and bool(_git(context, "status", "--porcelain", "--", *map(str, files))),
        source=_public(_git(context, "config", "--get", "remote.origin.url")),
    )


def _sent(context: Path, dockerfile: Path) -> list[Path]:
    """What .dockerignore lets into the build."""
    ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    if not ignore.exists():
        return [dockerfile.parent]
    return [context / line[1:] for line in ignore.read_text().splitlines() if line.startswith("!")]


def _version(project: Path) -> str:
    if not project.exists():
        return ""
    return str(tomllib.loads(project.read_text()).get("project", {}).get("version", ""))


def _git(folder: Path, *arguments: str) -> str:
    """Empty where git is missing, or knows nothing."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _public(remote: str) -> str:
    """A label is read by whoever has the image: no password, and no folder of this machine."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh") or not parts.hostname:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
