"""The changelogs are in the form of Keep a Changelog 1.1.0, also after merges that keep both sides' lines."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*/CHANGELOG.md")), *sorted(ROOT.glob("deploy/scaffold/*/CHANGELOG.md"))]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_each_version_has_its_date_and_each_entry_its_kind_once(page: Path) -> None:
    first, *versions = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    assert first.startswith("# Changelog of ")
    titles = [version.partition("\n")[0] for version in versions]
    assert titles[0] == "[Unreleased]"
    assert [
        title for title in titles[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title)
    ] == []
    for version in versions:
        loose, *sections = re.split(r"^### ", version.partition("\n")[2], flags=re.MULTILINE)
        assert not loose.strip()
        kinds = [section.partition("\n")[0] for section in sections]
        assert len(set(kinds)) == len(kinds)
        assert set(kinds) <= KINDS
        entries = re.findall(r"^- (?:.+)(?:\n  .+)*", version, re.MULTILINE)
        assert len(set(entries)) == len(entries)
