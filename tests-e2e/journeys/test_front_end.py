"""A front end on another origin, as docs/examples/front-end has it: a page of its own port, in Chromium.

Plain HTML and one module, served as they are: what a browser asks and may read does not depend on who built the page,
and a bundler's packages would be installed at each run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "front-end"
MILLISECONDS = 30_000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """What was asked for shows in the page."""


@pytest.fixture
def origin(system: System) -> Iterator[str]:
    """Where the page is served; a system that was there before has to list that origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(FOLDER)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://localhost:{server.server_address[1]}"
        response = httpx.get(f"{system.url}/healthz", headers={"origin": url})
        if type(system) is System and "access-control-allow-origin" not in response.headers:
            pytest.skip("CORS_ORIGINS of this system does not list loopback")
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def page(browser: Browser, origin: str, system: System) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{origin}/index.html?{urlencode({'api': system.url})}")
        yield page


def press(page: Page, button: str, shows: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#said")).to_contain_text(shows, timeout=MILLISECONDS)


def test_a_front_end_on_another_origin_registers_signs_in_refreshes_reads_and_signs_out(
    page: Page, people: People, origin: str
) -> None:
    person = people.stranger()
    assert page.evaluate("location.origin") == origin
    for label, value in (("Name", person.name), ("Address", person.email), ("Passphrase", person.password)):
        page.get_by_label(label).fill(value)
    press(page, "Register", person.email)
    press(page, "Sign in", "done")
    press(page, "Read", person.email)
    press(page, "Refresh", "refreshed")
    press(page, "Read", person.email)
    press(page, "Sign out", "done")
    press(page, "Read", "401 token_required")


def test_a_front_end_on_another_origin_reads_why_it_is_refused(page: Page, people: People) -> None:
    person = people.registered()
    page.get_by_label("Name").fill(person.name)
    page.get_by_label("Address").fill(person.email)
    page.get_by_label("Passphrase").fill("a wrong passphrase")
    press(page, "Sign in", "400 invalid_credentials")
    page.get_by_label("Passphrase").fill(person.password)
    press(page, "Register", "409 email_taken")


def test_a_front_end_whose_token_ran_out_refreshes_once_and_goes_on(page: Page, people: People) -> None:
    person = people.registered()
    page.get_by_label("Address").fill(person.email)
    page.get_by_label("Passphrase").fill(person.password)
    press(page, "Sign in", "done")
    refused = {"status": 401, "json": {"code": "token_expired", "title": "The token has expired"}}
    allow = {"access-control-allow-origin": "*"}
    page.route(
        "**/v1/users/me",
        lambda route: (
            route.fulfill(headers=allow, **refused) if route.request.method == "GET" else route.continue_()
        ),
        times=1,
    )
    press(page, "Read", person.email)
