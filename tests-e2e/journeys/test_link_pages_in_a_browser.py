"""The page of a mailed link as people meet it: on a small screen, light and dark, with a mistake and without."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from gatehouse_e2e.people import People

RESET = "/v1/users/links/reset-password#token=made-up&email=ada%40example.com"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_password_is_reset_on_a_small_screen(
    browser: Browser, people: People, scheme: Literal["light", "dark"]
) -> None:
    with browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(people.url + RESET)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        expect(page.get_by_text("You will be signed out on all your devices.")).to_be_visible()
        expect(page.get_by_label("New password")).to_have_accessible_description(
            "At least 12 characters. Not a common one, and not your name or address."
        )
        # What a password manager saves the new password under.
        assert page.locator("[autocomplete=username]").input_value() == "ada@example.com"
        expect(page.locator("[autocomplete=username]")).to_be_hidden()
        background = page.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(36, 36, 36)"}[scheme]

        page.get_by_label("New password").fill("correct horse battery")
        page.get_by_role("button", name="Set the password").click()
        expect(page.get_by_role("alert")).to_have_text("This is not one of our links, or only a part of one.")

        # No mail was sent, so what a good link would do is made up; then the same page, asked anew.
        page.reload()
        page.route("**/links/reset-password", lambda route: route.fulfill(status=204))
        page.get_by_label("New password").fill("correct horse battery")
        page.get_by_role("button", name="Set the password").click()
        expect(page.get_by_role("status")).to_have_text("Done.")
        assert page.get_by_role("link", name="Go on").get_attribute("href") == people.url
