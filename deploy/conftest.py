"""compose, where it works."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Render = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="session")
def render(render_project: Render) -> Render:
    """The services of such a project."""
    return lambda folder: render_project(folder)["services"]


@pytest.fixture(scope="session")
def render_project() -> Render:
    """A folder's docker-compose.yml and .env as compose reads them, whatever this process's environment says."""
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("compose renders it, and `docker compose` does not work here")

    def project(folder: Path) -> dict[str, Any]:
        passed_on = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
        answer = subprocess.run(
            ["docker", "compose", "config", "--format", "json"],
            cwd=folder,
            env=passed_on,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    return project
