"""What journeys in a browser stand on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """This machine's Chromium, else the one that playwright brought; .ci/run says when there has to be one."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    # Chromium refuses its sandbox to root, which CI's containers run as.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with ExitStack() as stack:
        try:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
        except Exception as error:  # nothing finer is raised where playwright's own driver does not start
            if os.environ.get("BROWSER_REQUIRED"):
                raise
            pytest.skip(f"no Chromium here (apt-get install chromium): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def screenshots(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.rootpath / str(pytestconfig.getoption("report_dir")) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
