"""What compose starts has no more than it needs."""

import json
import subprocess
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from parts import redis_command

ROOT = Path(__file__).parents[3]
ROOT_BY_NATURE = {"secrets"}  # it hands each folder to its reader, with three capabilities and no network


@pytest.fixture(scope="module")
def services(render: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    return render(ROOT)


def test_nothing_runs_as_root_with_a_capability_or_on_a_root_it_can_write(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges=true"], name
        assert service["mem_limit"], name
        assert service["cpu_quota"], name
        assert service["pids_limit"], name
        if name not in ROOT_BY_NATURE:
            assert not service["user"].startswith("0"), name
            assert not service.get("cap_add"), name


def test_only_front_publishes_a_port(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("ports")] == ["front"]


def test_no_release_and_no_setting_but_the_port_replaces_front(services: dict[str, Any]) -> None:
    """Whoever replaces it ends every connection: so it is built by nobody, and reads nothing of .env."""
    front = services["front"]
    assert "build" not in front
    assert not front.get("environment")
    assert not front.get("depends_on")
    assert set(front["networks"]) == {"front"}


def test_nobody_but_a_gateway_can_take_the_port_over(services: dict[str, Any]) -> None:
    """Whoever reaches front's socket is passed the callers."""
    reach = {
        name
        for name, service in services.items()
        if any(volume.get("source") == "front" for volume in service.get("volumes", ()))
    }
    assert reach == {"front", "gateway"}


def test_the_gateway_waits_for_no_service(services: dict[str, Any]) -> None:
    """compose replaces what depends on what it replaces."""
    assert set(services["gateway"]["depends_on"]) == {"secrets", "front"}
    assert "ports" not in services["gateway"]


def test_no_service_reaches_the_store_of_another(services: dict[str, Any]) -> None:
    networks = {name: set(service.get("networks") or ()) for name, service in services.items()}
    assert {name for name in networks if "mysql" in networks[name]} == {
        *("mysql", "user-service", "user-service-migrate")
    }
    assert networks["gateway"] == {"front", "services", "redis", "limits"}


BOUNDS = ("--maxclients", "--maxmemory-clients", "--appendonly", "--maxmemory-policy")


@pytest.mark.parametrize("name", ["redis", "redis-limits"])
def test_redis_is_bounded_alike_in_compose_and_in_the_embedded_system(
    name: str, services: dict[str, Any], tmp_path: Path
) -> None:
    """Whoever has a password may open every connection: so their number, and what memory they take, has an end."""

    def bounds(command: Sequence[str]) -> dict[str, str]:
        return {option: command[command.index(option) + 1] for option in BOUNDS}

    composed, embedded = services[name]["command"], redis_command(tmp_path, name, 6379)
    assert bounds(composed) == bounds(embedded)
    assert int(bounds(composed)["--maxclients"]) < 10_000


def test_a_volume_of_secrets_has_one_reader(services: dict[str, Any]) -> None:
    readers: dict[str, set[str]] = {}
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if str(volume.get("source", "")).startswith("secrets-"):
                readers.setdefault(volume["source"].removeprefix("secrets-"), set()).add(name)
    assert readers.pop("services") == {"secrets"}
    assert readers == {name: {name, "secrets"} for name in readers}
    assert {"mysql", "user-service", "user-service-migrate", "user-service-database"} <= set(readers)


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_an_image_is_built_apart_from_what_runs_and_runs_as_nobody(dockerfile: Path) -> None:
    final = dockerfile.read_text().rpartition("\nFROM ")[2]
    assert "COPY --from=build" in final
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    for name in ("version", "revision", "source"):
        assert f"org.opencontainers.image.{name}=${name.upper()}" in final
    assert f"ENV RELEASE=${{REVISION:+{dockerfile.parent.name}/$VERSION+$REVISION}}" in final
    assert "pip install" not in final
    assert "apt-get" not in final


class Readiness(BaseHTTPRequestHandler):
    """A service whose readiness is what its server's `status` says."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Readying)
        self.send_response(self.server.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Readying(ThreadingHTTPServer):
    status = 200


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_a_container_is_healthy_while_its_service_says_that_it_is_ready(dockerfile: Path) -> None:
    check: list[str] = json.loads(dockerfile.read_text().partition("HEALTHCHECK")[2].split("CMD", 2)[1])
    with Readying(("127.0.0.1", 0), Readiness) as server:
        Thread(target=server.serve_forever).start()
        asks_here = [part.replace("9000", str(server.server_port)) for part in check]
        try:
            assert subprocess.run(asks_here, timeout=10, check=False).returncode == 0
            server.status = 503
            assert subprocess.run(asks_here, timeout=10, check=False).returncode == 1
        finally:
            server.shutdown()
    assert subprocess.run(asks_here, timeout=10, check=False).returncode == 1, "nobody listens"
