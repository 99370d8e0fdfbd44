"""Every setting is explained in .env.example, and what .env says reaches the services."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Of `make run` and compose, not of a service.
OUR_OWN = {"PORT", "VAR", "COMPOSE_PROJECT_NAME"} | {
    f"{service}_WORKERS" for service in ("GATEWAY", "AUTH_SERVICE", "USER_SERVICE")
}
# Set by the worker itself, out of METRICS_DIR.
DERIVED = {"PROMETHEUS_MULTIPROC_DIR"}


def settings() -> Iterator[str]:
    """The fields of every settings class that are no secrets, as variables."""
    files = [*ROOT.glob("*/src/*/config.py"), ROOT / "service-kit/src/service_kit/settings.py"]
    classes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    for node in classes:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and "SecretStr" not in ast.unparse(field.annotation):
                    yield ast.unparse(field.target).upper()


def test_every_setting_is_explained_once_and_nothing_else_is() -> None:
    explained = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) - OUR_OWN == set(settings()) - DERIVED


@pytest.mark.skipif(shutil.which("docker") is None, reason="compose renders it")
def test_what_env_says_reaches_each_service(tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "deploy/compose", "auth-service", "user-service", "gateway"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        if (ROOT / name).is_dir():
            (tmp_path / name).mkdir()
            for file in (ROOT / name).glob("*.yaml"):
                shutil.copy(file, tmp_path / name)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".env").write_text("GRANT_PASSWORD=off\nHASHING_QUEUE=7\nIDLE_SECONDS=9\nPORT=8123\n")
    command = ["docker", "compose", "--file", "docker-compose.yml", "config", "--format", "json"]
    nothing_said = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}  # make says PORT, for one
    rendered = subprocess.run(
        command, cwd=tmp_path, env=nothing_said, capture_output=True, text=True, check=True
    )
    services = json.loads(rendered.stdout)["services"]
    assert services["auth-service"]["environment"]["GRANT_PASSWORD"] == "off"
    assert services["user-service"]["environment"]["HASHING_QUEUE"] == "7"
    assert services["user-service-migrate"]["environment"]["HASHING_QUEUE"] == "7"
    assert services["gateway"]["environment"]["IDLE_SECONDS"] == "9"
    assert services["gateway"]["environment"]["PUBLIC_URL"] == "http://localhost:8123"
