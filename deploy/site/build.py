"""Build the documentation site from the repository's own pages: `make docs`.

A page is where it is in the repository, so that one link works in both. What is no page (code, settings, folders) is
linked to at REPOSITORY, the address of the repository's files at one revision, and is plain text without it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGES = HERE / ".pages"  # no pages of the repository
OF_A_SITE = {".md", ".png", ".svg"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def build(repository: str) -> None:
    """Copy every page, then let Zensical build them; a broken link ends it."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for file in tracked():
        if file.suffix in OF_A_SITE:
            copy = PAGES / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".md":
                copy.write_text(as_page(file, (ROOT / file).read_text("utf-8"), repository), "utf-8")
            else:
                shutil.copyfile(ROOT / file, copy)
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "--clean", "--strict"], cwd=HERE, check=True)


def tracked() -> list[Path]:
    """What the repository holds, and no cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def as_page(file: Path, text: str, repository: str) -> str:
    """The page with the links that leave the site turned to the repository."""

    def follow(link: re.Match[str]) -> str:
        shown, target = link[2], link[3]
        there = Path(os.path.normpath(file.parent / target))
        if ":" in target or there.suffix in OF_A_SITE:
            return link[0]
        if (ROOT / there / "README.md").is_file():
            return f"[{shown}]({target.rstrip('/')}/README.md{link[4] or ''})"
        return f"[{shown}]({repository}/{there.as_posix()}{link[4] or ''})" if repository else shown

    return LINK.sub(follow, text)


if __name__ == "__main__":
    build(os.environ.get("REPOSITORY", "").rstrip("/"))
    print(f"the site is in {(HERE / 'html').relative_to(ROOT)}: open index.html there")
