"""What compose starts has no more than it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
        assert service["pids_limit"], name
        if name not in ROOT_BY_NATURE:
            assert not service["user"].startswith("0"), name
            assert not service.get("cap_add"), name


def test_only_the_gateway_publishes_a_port(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("ports")] == ["gateway"]


def test_no_service_reaches_the_store_of_another(services: dict[str, Any]) -> None:
    networks = {name: set(service.get("networks") or ()) for name, service in services.items()}
    assert {name for name in networks if "mysql" in networks[name]} == {
        *("mysql", "user-service", "user-service-migrate")
    }
    assert networks["gateway"] == {"front", "services", "redis", "limits"}


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_an_image_is_built_apart_from_what_runs_and_runs_as_nobody(dockerfile: Path) -> None:
    final = dockerfile.read_text().rpartition("\nFROM ")[2]
    assert "COPY --from=build" in final
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert "pip install" not in final
    assert "apt-get" not in final
