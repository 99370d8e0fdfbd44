"""Every page leads where it says: relative links and the headings that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (page.relative_to(ROOT) for page in ROOT.rglob("*.md"))
    # Caches and environments bring pages of their own.
    if not any(part.startswith(".") for part in page.parts)
)


def anchors(page: Path) -> set[str]:
    """The headings as GitHub spells them in a link."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_leads_where_it_says(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page} links to {target}, and there is nothing"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page} links to {target}, and {there.name} has no such heading"
