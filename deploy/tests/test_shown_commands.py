"""A command that a page shows can be typed in a fresh clone: make has the verb, and it needs no uv and no package."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from env_file import fields, filled_in_by_compose

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (page.relative_to(ROOT) for page in ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in page.parts) and page.name != "CHANGELOG.md"
)
MAKEFILE = (ROOT / "Makefile").read_text()
VERBS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))
# A comment above a block says that it is not of this clone, as tests-e2e/journeys/test_pages.py reads it.
BLOCK = re.compile(
    r"(<!-- not run by the tests: .*? -->\n)?^( *)```[\w-]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
WORD = r"""(?:[^\s"'`|;&()<>]|"[^"]*"|'[^']*')+"""
MAKE = re.compile(rf"(?<![\w./-])make((?: +{WORD})+)")


def commands(page: Path) -> Iterator[str]:
    """The lines of blocks and of indented code."""
    text = (ROOT / page).read_text()
    for marked, _, code in BLOCK.findall(text):
        yield from () if marked else code.splitlines()
    yield from re.findall(r"^(?: {4}|\t)+(\S.*)$", BLOCK.sub("", text), re.MULTILINE)


def spans(page: Path) -> Iterator[str]:
    """The pieces of code within sentences, and every line of code."""
    text = (ROOT / page).read_text()
    yield from (line for _, _, code in BLOCK.findall(text) for line in code.splitlines())
    yield from re.findall(r"^(?: {4}|\t)+(\S.*)$", BLOCK.sub("", text), re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_is_shown_needs_neither_uv_nor_an_installed_package(page: Path) -> None:
    packages = "|".join(folder.name for folder in ROOT.glob("*/src/*/"))
    own = re.compile(rf"(^|[;&|(] *)([A-Z_]+=\S+ +)*(uv (run|sync|add|lock)|python3? -m ({packages}))\b")
    assert not [line for line in commands(page) if own.search(line)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_verbs_and_variables_of_make_exist(page: Path) -> None:
    variables = (
        set(re.findall(r"\b([A-Z][A-Z0-9_]*)\b", MAKEFILE)) | set(fields(ROOT)) | filled_in_by_compose(ROOT)
    )
    for span in spans(page):
        for shown in MAKE.findall(re.sub(r"( #|   ).*", "", span.strip())):
            for word in re.findall(WORD, shown):
                name, equals, _ = word.partition("=")
                assert (name in variables) if equals else (name in VERBS or name.startswith("-")), span


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_services_of_docker_compose_exec_exist(page: Path) -> None:
    files = [*ROOT.glob("*/compose.yaml"), *ROOT.glob("deploy/compose/*.yaml")]
    services = {
        name for file in files for name in re.findall(r"^  ([a-z-]+):$", file.read_text(), re.MULTILINE)
    }
    shown = re.findall(r"docker compose exec (?:-\w+ )*([\w-]+)", (ROOT / page).read_text())
    assert not [name for name in shown if name not in services and not name.isupper()]


def test_the_rule_finds_what_it_looks_for() -> None:
    assert MAKE.findall("cd x && make lint test SERVICE=orders | cat") == [" lint test SERVICE=orders"]
    assert MAKE.findall('SECRET=$(make clients ARGS="add reports --scope orders:read")') == [
        ' clients ARGS="add reports --scope orders:read"'
    ]
    assert {"up", "clients", "routes", "keys"} <= VERBS
