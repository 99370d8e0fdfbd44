"""The documentation site is built from the repository's pages, and each of them has a place in it."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import ROOT, as_page, tracked

SITE = Path(__file__).parents[1] / "site"
# Of one place alone: a template, a note beside the code.
ELSEWHERE = {".github", "deploy/scaffold/example-service/CHANGELOG.md"}


def listed(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, list):
        for entry in entries:
            yield from listed(entry)
    elif isinstance(entries, dict):
        for entry in entries.values():
            yield from listed(entry)


def test_every_page_has_a_place_in_the_site() -> None:
    nav = list(listed(tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"]))
    pages = {file.as_posix() for file in tracked() if file.suffix == ".md"}
    decisions = {
        page for page in pages if page.startswith("docs/decisions/2")
    }  # listed on a page of their own
    elsewhere = {page for page in pages if page in ELSEWHERE or page.partition("/")[0] in ELSEWHERE}
    assert sorted(nav) == sorted(pages - decisions - elsewhere)
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert [page for page in decisions if f"({Path(page).name})" not in index] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("2*.md")), ids=lambda page: page.stem)
def test_a_decision_says_its_status_context_decision_and_consequences(page: Path) -> None:
    text = page.read_text("utf-8")
    status = re.search(r"^\*\*Status:\*\* (accepted|replaced) (?:on|by) .+$", text, re.MULTILINE)
    assert status
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [part for part in ("Context", "Decision", "Consequences") if part not in headings] == []
    title = text.partition("\n")[0].removeprefix("# ")
    row = f"| {page.name[:10]} | [{title}]({page.name}) | {status[1]} |"
    assert row in (page.parent / "README.md").read_text("utf-8").splitlines()


def test_the_site_is_built_and_no_link_in_it_is_broken() -> None:
    built = subprocess.run(
        [sys.executable, SITE / "build.py"], capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    home = (SITE / "html/index.html").read_text()
    assert home.index("system.svg") < home.index("<h2"), "the picture comes first"
    assert "https://fonts" not in home


def test_a_link_to_what_is_no_page_leads_to_the_repository_or_nowhere() -> None:
    text = (
        "[settings](../.env.example) [runbooks](../deploy/runbooks)"
        " [there](https://example.com) [on](security.md#keys)"
    )
    here = Path("docs/production.md")
    assert as_page(here, text, "https://example.org/blob/main") == (
        "[settings](https://example.org/blob/main/.env.example) [runbooks](../deploy/runbooks/README.md)"
        " [there](https://example.com) [on](security.md#keys)"
    )
    assert as_page(here, "[settings](../.env.example)", "") == "settings"
