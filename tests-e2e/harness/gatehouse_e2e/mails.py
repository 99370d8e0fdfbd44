"""Reads the mail catcher, so that a test can follow the link a person was sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx

from .waiting import until


@dataclass(frozen=True, slots=True)
class Mail:
    to: tuple[str, ...]
    subject: str
    text: str
    html: str

    @property
    def link(self) -> str:
        """The first link of the plain part."""
        found = re.search(r"https?://\S+", self.text)
        assert found, f"no link in {self.text!r}"
        return found.group()

    @property
    def token(self) -> str:
        """The link's secret: a fragment, so that no server's log ever holds it."""
        token = self.link.partition("#token=")[2].partition("&")[0]
        assert token, f"no token in {self.link!r}"
        return token


class Mails:
    """The mails of one address at a time: parallel workers share the catcher and never meet."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=5)

    def to(self, address: str) -> list[Mail]:
        """Newest first."""
        listed: list[dict[str, Any]] = self._http.get("/messages", params={"to": address}).json()
        return [Mail(tuple(one["to"]), one["subject"], one["text"], one["html"]) for one in listed]

    def wait(self, address: str, subject: str = "", within: float = 15) -> Mail:
        """The newest mail to the address whose subject holds `subject`."""
        found: list[Mail] = []

        def arrived() -> bool:
            found[:] = [mail for mail in self.to(address) if subject.lower() in mail.subject.lower()]
            return bool(found)

        until(arrived, within, f"a mail to {address} about {subject or 'anything'}", every=0.2)
        return found[0]

    def close(self) -> None:
        self._http.close()
