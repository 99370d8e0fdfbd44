"""Every setting is explained in .env.example, and what .env says reaches the services."""

import difflib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from env_file import NEAR, fields, refuse_unread, without_effect
from supervisor import Fault

ROOT = Path(__file__).parents[3]
# Of `make run` and compose, not of a service.
OUR_OWN = {"PORT", "VAR", "COMPOSE_PROJECT_NAME"} | {
    f"{service}_{what}"
    for service in ("GATEWAY", "AUTH_SERVICE", "USER_SERVICE")
    for what in ("REPLICAS", "WORKERS", "CPU_QUOTA")
}
# Set by the worker itself, out of METRICS_DIR.
DERIVED = {"PROMETHEUS_MULTIPROC_DIR"}


def test_every_setting_is_explained_once_and_nothing_else_is() -> None:
    explained = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) - OUR_OWN == set(fields(ROOT)) - DERIVED


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
    assert not said - set(fields(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The compose files, without anybody's .env."""
    for name in (
        "docker-compose.yml",
        "services.yaml",
        "deploy/compose",
        "deploy/front",
        "auth-service",
        "user-service",
        "gateway",
    ):
        for file in (ROOT / name).glob("*.yaml") if (ROOT / name).is_dir() else [ROOT / name]:
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return tmp_path


def test_what_env_says_reaches_each_service(folder: Path, render: Callable[[Path], dict[str, Any]]) -> None:
    (folder / ".env").write_text("GRANT_PASSWORD=off\nHASHING_QUEUE=7\nIDLE_SECONDS=9\nPORT=8123\n")
    said = {name: service.get("environment") for name, service in render(folder).items()}
    assert said["auth-service"]["GRANT_PASSWORD"] == "off"
    assert said["user-service"]["HASHING_QUEUE"] == "7"
    assert said["user-service-migrate"]["HASHING_QUEUE"] == "7"
    assert said["gateway"]["IDLE_SECONDS"] == "9"
    assert said["gateway"]["PUBLIC_URL"] == "http://localhost:8123"


def test_how_many_run_of_a_service_changes_nothing_else_so_none_is_made_anew(
    folder: Path, render: Callable[[Path], dict[str, Any]]
) -> None:
    (folder / ".env").touch()
    before = render(folder)
    (folder / ".env").write_text("GATEWAY_REPLICAS=4\nAUTH_SERVICE_REPLICAS=2\nUSER_SERVICE_REPLICAS=3\n")
    after = render(folder)
    services = ("gateway", "auth-service", "user-service")
    assert [after[name]["deploy"].pop("replicas") for name in services] == [4, 2, 3]
    for name in services:
        del before[name]["deploy"]["replicas"]
    assert after == before


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
    assert "docker compose -p second port" in up()
    assert "http://localhost:9000" in up("PORT=9000")
    assert "docker compose -p third port" in up("PROJECT=third")
    (tmp_path / ".env").unlink()
    assert "http://localhost:8080" in up()


def refusal(*names: str) -> str:
    with pytest.raises(Fault) as fault:
        refuse_unread(names, ROOT)
    return str(fault.value)


def test_a_name_in_env_that_nobody_reads_is_refused_with_the_nearest_one() -> None:
    said = refusal(
        "GRANT_PASSWRD", "PORT", "grant_password", "COMPOSE_PROJEKT_NAME", "SCALES", "HASHING_QUEUE"
    )
    assert "\n" not in said
    assert (
        "GRANT_PASSWRD (did you mean GRANT_PASSWORD?), grant_password (did you mean GRANT_PASSWORD?)" in said
    )
    assert "COMPOSE_PROJEKT_NAME (did you mean COMPOSE_PROJECT_NAME?), SCALES. " in said
    assert "PORT," not in said
    assert "HASHING_QUEUE" not in said


def test_a_name_that_is_read_elsewhere_is_refused_with_what_is_read_here() -> None:
    assert "PROJECT (did you mean COMPOSE_PROJECT_NAME?)" in refusal("PROJECT")
    assert "WORKERS (did you mean GATEWAY_WORKERS, " in refusal("WORKERS")
    assert "SMTP_PASSWORD (a secret is a file, smtp_password: " in refusal("SMTP_PASSWORD")


def test_every_explained_name_may_stand_in_env_and_so_may_those_of_docker_and_libraries() -> None:
    explained = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    refuse_unread(set(explained) - {"WORKERS"}, ROOT)
    refuse_unread(["COMPOSE_PROFILES", "DOCKER_HOST", "https_proxy", "NO_PROXY", "TZ", "PYTHONDEVMODE"], ROOT)
    refuse_unread(["ARGON2_CFLAGS", "MAIL_PORT"], ROOT)  # compose's alone


def test_a_service_of_yours_brings_its_own_names(tmp_path: Path) -> None:
    for file, text in {
        "service-kit/src/service_kit/settings.py": "",
        "docker-compose.yml": "services: {}",
        "orders/src/orders/config.py": "class Settings(ServiceSettings):\n    payments_url: str = ''\n",
        "invoices/compose.yaml": "environment: {BANK: '${INVOICES_BANK:-}'}",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    refuse_unread(["PAYMENTS_URL", "INVOICES_BANK"], tmp_path)
    with pytest.raises(Fault, match=r"PAYMENT_URL \(did you mean PAYMENTS_URL\?\)"):
        refuse_unread(["PAYMENT_URL"], tmp_path)


def test_what_of_the_environment_reaches_no_container_is_told() -> None:
    said = "\n".join(
        without_effect({"HASHING_QUEUE": "7", "GRANT_PASSWORD": "off", "GRANT_PASWORD": ""}, ROOT)
    )
    assert "HASHING_QUEUE of this environment reaches no container: set it in .env" in said
    assert "nobody reads GRANT_PASWORD: did you mean GRANT_PASSWORD?" in said
    assert "GRANT_PASSWORD of" not in said
    assert not list(
        without_effect({"HOME": "/", "PATH": "/bin", "LANG": "C", "GIT_DIR": "", "EDITOR": ""}, ROOT)
    )


def test_no_service_takes_a_setting_of_another_for_a_misspelt_one_of_its_own() -> None:
    """Compose gives every setting of `.env` to every service, and each warns of names that are near to its own."""
    of_service = {
        file.parents[2].name: set(fields(ROOT, [file, ROOT / "service-kit/src/service_kit/settings.py"]))
        for file in ROOT.glob("*/src/*/config.py")
    }
    every = set().union(*of_service.values())
    for service, own in of_service.items():
        for name in every - own:
            assert not difflib.get_close_matches(name, own, n=1, cutoff=NEAR), (service, name)


@pytest.mark.parametrize("start", ["run.py", "env_file.py"])
def test_a_start_says_it_and_ends(start: str, tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "deploy/embedded", "service-kit/src"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    (tmp_path / ".env").write_text("LOG_LEVLE=DEBUG\n")
    command = [sys.executable, str(tmp_path / "deploy/embedded" / start)]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "LOG_LEVLE (did you mean LOG_LEVEL?)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_make_looks_before_it_starts_containers() -> None:
    for verb in ("up", "roll"):
        said = subprocess.run(
            ["make", "--dry-run", verb, "SERVICE=auth-service"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert 0 < said.index("env_file.py") < max(said.find(" up "), said.find("compose/roll"))
