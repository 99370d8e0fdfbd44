"""Services come and go: each publishes its own routes, nothing else is touched, and what leaves says what stays."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from create import main

ROOT = Path(__file__).parents[3]
ROUTES = "/etc/gateway/routes.d"
DOCKER = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  "ps "*service=orders) echo c1; echo c2 ;;
  "ps "*service=orders-routes) echo c3 ;;
  "ps "*service=orders-migrate) echo c4 ;;
  *"println .Name"*) printf 'of-a-test_orders-data\\n\\nof-a-test_routes\\nof-a-test_secrets-services\\n' ;;
  "inspect"*) echo an-image ;;
esac
"""


@pytest.fixture
def services(tmp_path: Path, render: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What compose makes of a checkout with one new service."""
    for pattern in (
        *("docker-compose.yml", "services.yaml", "*/compose.yaml", "deploy/**/*.yaml"),
        *("*-service/routes/*.toml", "gateway/contract/openapi.json", ".github/workflows/gateway.yml"),
    ):
        for file in ROOT.glob(pattern):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    main(["service", "orders"], tmp_path)
    return render(tmp_path)


def test_each_service_publishes_the_routes_of_its_image_before_it_starts(services: dict[str, Any]) -> None:
    for name in ("auth-service", "user-service", "orders"):
        service, publisher = services[name], services[f"{name}-routes"]
        assert service["depends_on"][f"{name}-routes"]["condition"] == "service_completed_successfully"
        assert publisher["image"] == service["image"]
        assert publisher["pull_policy"] == "never"
        assert publisher["restart"] == "no"
        assert publisher["network_mode"] == "none"
        assert publisher["command"] == ["python", "-m", "service_kit.routes", "publish", name]
        assert publisher["environment"]["ROUTES_DIR"] == ROUTES
        ((kind, source, target),) = mounts(publisher)
        assert (kind, source, target) == ("volume", "routes", ROUTES)
        dockerfile = ROOT / (name if name != "orders" else "deploy/scaffold/example-service") / "Dockerfile"
        assert "/routes /opt/routes\n" in dockerfile.read_text()
        assert "install -d -o 10001 -g 10001" in dockerfile.read_text()


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["type"], each["source"], each["target"]) for each in service["volumes"]]


def test_the_gateway_reads_what_all_have_published_and_depends_on_none_of_them(
    services: dict[str, Any],
) -> None:
    gateway = services["gateway"]
    assert ("volume", "routes", ROUTES) in mounts(gateway)
    assert [each["read_only"] for each in gateway["volumes"] if each["source"] == "routes"] == [True]
    assert not {name for name in gateway["depends_on"] if f"{name}-routes" in services}
    assert "orders" not in str(gateway)


def test_nobody_else_writes_routes(services: dict[str, Any]) -> None:
    writers = {
        name
        for name, service in services.items()
        for each in service.get("volumes", ())
        if each["source"] == "routes" and not each.get("read_only")
    }
    assert writers == {"auth-service-routes", "user-service-routes", "orders-routes"}


def remove(folder: Path, service: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What `remove` says, and what it asked docker for."""
    script = folder / "deploy/compose/remove"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "deploy/compose/remove", script)
    (folder / "docker").write_text(DOCKER)
    (folder / "sleep").write_text('#!/bin/sh\necho "sleep $*" >>"$CALLS"\n')
    for fake in ("docker", "sleep"):
        (folder / fake).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    done = subprocess.run(
        [script, service],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "PROJECT": "of-a-test"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text().splitlines()


def test_who_leaves_withdraws_its_routes_then_drains_then_goes(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders/compose.yaml").write_text(
        "services:\n  orders:\n    image: a\n  orders-migrate:\n    image: a\n\nvolumes:\n  orders-data: {}\n"
    )
    done, calls = remove(tmp_path, "orders")
    assert done.returncode == 0, done.stderr
    withdrawn, *rest = [call for call in calls if not call.startswith(("ps ", "inspect "))]
    assert withdrawn == (
        "run --rm --network none --read-only --cap-drop ALL --volume of-a-test_routes:/routes an-image"
        " python -m service_kit.routes withdraw orders --routes-dir /routes"
    )
    assert rest == ["sleep 2", "stop --time 35 c1 c2 c4", "rm c1 c2 c4"]
    assert "What it keeps stays: of-a-test_orders-data." in done.stdout
    assert "its line in services.yaml" in done.stdout


def test_a_service_whose_folder_is_gone_can_leave(tmp_path: Path) -> None:
    done, calls = remove(tmp_path, "orders")
    assert done.returncode == 0, done.stderr
    assert calls[-1] == "rm c1 c2 c3"
    assert "services.yaml" not in done.stdout


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        ("gateway", "belongs to Gatehouse itself"),
        ("user-service", "belongs to Gatehouse itself"),
        ("payments", "payments does not run in project of-a-test"),
    ],
)
def test_what_cannot_leave_is_refused_and_touches_nothing(service: str, reason: str, tmp_path: Path) -> None:
    done, calls = remove(tmp_path, service)
    assert done.returncode != 0
    assert reason in done.stderr
    assert all(call.startswith("ps ") for call in calls)
