"""Every block of shell, Python and JavaScript of docs/ and of the READMEs, pasted from top to bottom into one shell.

A page is run in a copy of the checkout, against the embedded system. A block that cannot be is marked in the line above
it, which no reader sees: `<!-- not run by the tests: it starts containers -->`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gatehouse_e2e.systems import Embedded, System

ROOT = Path(__file__).parents[2]
PAGES = [
    Path("README.md"),
    *sorted(page.relative_to(ROOT) for page in (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md"))),
]
FENCE = re.compile(
    r"(?:^<!-- not run by the tests: ([^\n]+) -->\n)?^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = {"sh": "bash", "python": sys.executable, "js": "node"}
# Pictures made of letters, logs, files.
SHOWN = {"", "text", "json", "toml", "yaml"}
NODE = Path("docs/examples/node")
SECONDS = 300  # of a page; the first `uv run` in a new folder installs
OURS = secrets.token_hex(4)


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"line {self.line} ({self.language})"


def blocks(page: Path) -> Iterator[Block]:
    text = (ROOT / page).read_text("utf-8")
    for fence in FENCE.finditer(text):
        not_run, language, code = fence.groups()
        yield Block(text.count("\n", 0, fence.start(3)), language, code, not_run or "")


def test_a_block_of_a_page_is_run_or_is_no_code() -> None:
    found = {page: {block.language for block in blocks(page)} for page in PAGES}
    assert {
        page: kinds - RUN.keys() - SHOWN for page, kinds in found.items() if kinds - RUN.keys() - SHOWN
    } == {}
    assert sum(text.count("\n```") for text in ((ROOT / page).read_text("utf-8") for page in PAGES)) == sum(
        2 for page in PAGES for _ in blocks(page)
    )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, in which a page may write what it likes."""
    copy = tmp_path_factory.mktemp("pages") / "gatehouse"
    made = shutil.ignore_patterns(
        ".*_cache", ".venv", ".git", ".tools", ".env", "node_modules", "var*", "report*"
    )
    shutil.copytree(ROOT, copy, ignore=made)
    return copy


@pytest.fixture(scope="session")
def node_packages(checkout: Path) -> str:
    """Why JavaScript cannot be run here; empty when it can. In CI it must be."""
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=checkout / NODE, check=True, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        return "there is no node here"
    except subprocess.CalledProcessError as error:
        assert not os.environ.get("CI"), error.stderr
        return f"npm could not install its packages: {error.stderr.splitlines()[0]}"
    return ""


@pytest.mark.parametrize(
    "marked",
    [f"{page}, {block}: {block.not_run}" for page in PAGES for block in blocks(page) if block.not_run],
)
def test_a_block_that_is_not_run_says_why(marked: str) -> None:
    pytest.skip(marked)


def test_the_blocks_of_javascript_can_be_run_here(node_packages: str) -> None:
    if node_packages:
        pytest.skip(node_packages)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language in RUN for block in blocks(page))], ids=str
)
def test_the_blocks_of_a_page_work_in_the_order_in_which_they_stand(
    page: Path,
    system: System,
    checkout: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    if not isinstance(system, Embedded):
        pytest.skip("the pages are about the system that `make run` starts")
    # As curl alone, but a refusal ends the page.
    (tmp_path / "curl").write_text(f'#!/bin/sh\nexec {shutil.which("curl")} --fail-with-body "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    script = ["set -euo pipefail"]
    for block in blocks(page):
        if block.language not in RUN or block.not_run:
            continue
        if block.language == "js" and request.getfixturevalue("node_packages"):
            continue
        script.append(f"printf '\\n== %s\\n' '{block}' >&2")
        text = as_here(block.text, system, tmp_path)
        if block.language == "sh":
            script.append(text)
        else:
            # JavaScript finds its packages from where it stands.
            folder, suffix = (checkout / NODE, "mjs") if block.language == "js" else (tmp_path, "py")
            file = folder / f"{page.stem}-{block.line}.{suffix}"
            file.write_text(text, "utf-8")
            script.append(f"{RUN[block.language]} {file}")
    uv = Path(os.environ.get("UV") or shutil.which("uv") or "uv").parent
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTEST"))
    } | {
        "PATH": os.pathsep.join((str(tmp_path), os.environ["PATH"], str(uv))),
        "VAR": str(system.folder / "var"),
        "ON": "embedded",
        "UV_NO_DEV": "1",  # what a page asks for needs no tests
    }
    done = subprocess.run(
        ["bash"],
        input="\n".join(script),
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{page} {done.stderr.rpartition('== ')[2]}\n{done.stdout[-2000:]}"


def as_here(text: str, system: System, folder: Path) -> str:
    """The block with this system's address, and with people whom no other page has met."""
    text = text.replace("localhost:8080", urlsplit(system.url).netloc).replace("/tmp/", f"{folder}/")
    return re.sub(r"\b(\w+)@example\.com", rf"\1-{OURS}@{folder.name.replace('_', '-')}.example.com", text)
