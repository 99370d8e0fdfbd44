"""Every setting is explained in .env.example, and what .env says reaches the services."""

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


def test_compose_and_kubernetes_say_nothing_that_no_service_reads() -> None:
    files = [*ROOT.glob("*/compose.yaml"), *ROOT.glob("deploy/k8s/*.yaml")]
    said = {
        name
        for file in files
        for name in re.findall(r"(?:^ +|\bname: )([A-Z][A-Z_]+)[:,] ", file.read_text(), re.MULTILINE)
    }
    on_kubernetes = (ROOT / "deploy/k8s/settings.env").read_text()
    said |= set(re.findall(r"^#?([A-Z][A-Z_]+)=", on_kubernetes, re.MULTILINE))
    assert {"PUBLIC_URL", "DATABASE_URL", "GATEWAY_PEERS"} <= said
    assert not said - set(settings())


def test_what_env_says_reaches_each_service(tmp_path: Path, render: Callable[[Path], dict[str, Any]]) -> None:
    for name in ("docker-compose.yml", "deploy/compose", "auth-service", "user-service", "gateway"):
        for file in (ROOT / name).glob("*.yaml") if (ROOT / name).is_dir() else [ROOT / name]:
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    (tmp_path / ".env").write_text("GRANT_PASSWORD=off\nHASHING_QUEUE=7\nIDLE_SECONDS=9\nPORT=8123\n")
    said = {name: service.get("environment") for name, service in render(tmp_path).items()}
    assert said["auth-service"]["GRANT_PASSWORD"] == "off"
    assert said["user-service"]["HASHING_QUEUE"] == "7"
    assert said["user-service-migrate"]["HASHING_QUEUE"] == "7"
    assert said["gateway"]["IDLE_SECONDS"] == "9"
    assert said["gateway"]["PUBLIC_URL"] == "http://localhost:8123"


def test_make_reads_env_as_compose_does_and_the_command_line_wins(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "deploy/compose", tmp_path / "deploy/compose")
    (tmp_path / ".env").write_text('export PORT = "8123"  # ours\nCOMPOSE_PROJECT_NAME=second\n')

    def up(*said: str) -> str:
        command = ["make", "--dry-run", "up", *said]
        nothing_else = {"PATH": os.environ["PATH"]}
        return subprocess.run(
            command, cwd=tmp_path, env=nothing_else, capture_output=True, text=True, check=True
        ).stdout

    assert "http://localhost:8123" in up()
    assert "docker compose -p second up" in up()
    assert "http://localhost:9000" in up("PORT=9000")
    assert "docker compose -p third up" in up("PROJECT=third")
    (tmp_path / ".env").unlink()
    assert "http://localhost:8080" in up()
