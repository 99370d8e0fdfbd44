"""The API document as people use it: read in a browser, signed in, and tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, FloatRect, Page, ViewportSize, expect

from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System

PREFIX = "/tools/gatehouse"
MILLISECONDS = 30_000
# What docs/ shows of it: docs-light.png and docs-dark.png of a run's report.
PICTURE = FloatRect(x=0, y=0, width=320, height=760)
WIDTH = "document.documentElement.scrollWidth"


@contextmanager
def opened(
    browser: Browser, url: str, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Page]:
    """The page, which must load without an error, and nothing from anywhere else."""
    complaints: list[str] = []
    home = url.partition("://")[2].partition("/")[0]
    viewport = ViewportSize(width=width, height=1400)
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
        page = context.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.on(
            "console",
            lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None,
        )
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: (
                complaints.append(f"elsewhere: {request.url}")
                if not request.url.startswith((f"http://{home}/", f"https://{home}/", "data:", "blob:"))
                else None
            ),
        )
        page.goto(url)
        yield page
    assert complaints == []


def read_oneself(page: Page, email: str, password: str) -> str:
    """Authorize with the client's fields left empty, then Try it out on GET /v1/users/me; the answer's status."""
    page.locator(".opblock").first.wait_for()
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#oauth_username").fill(email)
    page.locator("#oauth_password").fill(password)
    form = page.locator(".auth-container", has=page.locator("#oauth_username"))
    form.get_by_role("button", name="Apply given OAuth2 credentials").click()
    page.get_by_role("button", name="Remove authorization").wait_for()
    page.locator("button.btn-done").first.click()
    operation = page.locator(".opblock-get", has=page.locator('[data-path="/v1/users/me"]'))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    status = answer.locator(".response-col_status")
    expect(status).to_have_text("200", timeout=MILLISECONDS)
    expect(answer.locator(".response-col_description")).to_contain_text(email)
    return status.inner_text()


def test_somebody_signs_in_and_reads_themselves_in_the_api_document(
    browser: Browser, system: System, people: People, screenshots: Path
) -> None:
    person = people.registered()
    with opened(browser, f"{system.url}/docs") as page:
        assert read_oneself(page, person.email, person.password) == "200"
        page.screenshot(path=screenshots / "docs.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_document_is_read_and_tried_on_a_small_screen(
    browser: Browser, system: System, people: People, screenshots: Path, scheme: Literal["light", "dark"]
) -> None:
    person = people.registered()
    with opened(browser, f"{system.url}/docs", width=320, scheme=scheme) as page:
        assert page.evaluate(WIDTH) == 320
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert background == {"light": "rgba(0, 0, 0, 0)", "dark": "rgb(28, 32, 34)"}[scheme]
        page.locator(".opblock").first.wait_for()
        page.screenshot(path=screenshots / f"docs-{scheme}.png", clip=PICTURE)
        assert read_oneself(page, person.email, person.password) == "200"
        assert page.evaluate(WIDTH) == 320
        register = page.locator(".opblock-post", has=page.locator('[data-path="/v1/users"]'))
        register.locator(".opblock-summary-control").click()
        name = register.locator("td.parameters-col_name").first
        name.wait_for()
        box = name.bounding_box()
        assert box is not None
        assert box["width"] > 150  # not a letter a line
        assert page.evaluate(WIDTH) == 320


def test_the_document_works_on_another_port_and_behind_a_proxy_that_puts_a_prefix_in_front(
    browser: Browser, system: System, people: People, screenshots: Path
) -> None:
    person = people.registered()
    with prefixed(system.url) as url, opened(browser, f"{url}/docs") as page:
        assert read_oneself(page, person.email, person.password) == "200"
        page.screenshot(path=screenshots / "docs-behind-a-prefix.png")


def test_the_home_page_says_how_each_service_is_and_its_links_lead_somewhere(
    browser: Browser, system: System, screenshots: Path
) -> None:
    with prefixed(system.url) as url, opened(browser, f"{url}/") as page:
        ready = page.locator("td.ready")
        ends = time.monotonic() + MILLISECONDS / 1000
        while ready.count() < 2 and time.monotonic() < ends:  # a busy machine's service may be late once
            page.wait_for_timeout(2000)
            page.reload()
        expect(ready).to_have_count(2)
        page.screenshot(path=screenshots / "home.png")
        for link in page.locator("a").all():
            assert page.request.get(f"{url}/{link.get_attribute('href')}").status == 200


@contextmanager
def prefixed(upstream: str) -> Iterator[str]:
    """A small proxy on a port of its own that serves the system below a prefix, and takes the prefix away."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.pass_on()

        def do_POST(self) -> None:
            self.pass_on()

        def pass_on(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            names = ("authorization", "content-type", "accept")
            fields = {name: value for name, value in self.headers.items() if name.lower() in names}
            answer = httpx.request(
                self.command, upstream + self.path.removeprefix(PREFIX), content=body, headers=fields
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """The system's own log is enough."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_two_people_who_sign_in_one_after_the_other_at_one_browser_each_see_themselves(
    browser: Browser, system: System, people: People
) -> None:
    """The browser's cache holds the first one's record when the second one asks at the same URL."""
    ask = """async token => {
        const response = await fetch("/v1/users/me", { headers: { Authorization: `Bearer ${token}` } });
        return (await response.json()).email;
    }"""
    ada, eve = people.signed_in(), people.signed_in()
    with opened(browser, f"{system.url}/docs") as page:
        for person in (ada, eve, eve, ada):
            assert page.evaluate(ask, person.tokens.access_token) == person.email
