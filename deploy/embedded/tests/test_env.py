"""A `.env` means the same to `make run` as to compose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from env_file import said_in
from supervisor import Fault

ENV = """\ufeff# as people write it
GRANT_PASSWORD=off  # no client of ours
export REGISTRATION=confirm
SMTP_HOST = mail.example.com
MAIL_FROM="no-reply@example.com" # ours
APP_URL='https://example.com/#/links'
ISSUERS_ALSO_ACCEPTED={"https://old.example.com": "2027-01-31"}
SMTP_USERNAME=it's#me
SMTP_PASSWORD_HINT=
"""
MEANT = {
    "GRANT_PASSWORD": "off",
    "REGISTRATION": "confirm",
    "SMTP_HOST": "mail.example.com",
    "MAIL_FROM": "no-reply@example.com",
    "APP_URL": "https://example.com/#/links",
    "ISSUERS_ALSO_ACCEPTED": '{"https://old.example.com": "2027-01-31"}',
    "SMTP_USERNAME": "it's#me",
    "SMTP_PASSWORD_HINT": "",
}


def test_a_line_means_what_it_means_to_compose() -> None:
    assert said_in(ENV.removeprefix("\ufeff").replace("\n", "\r\n")) == MEANT


def test_compose_reads_the_same(tmp_path: Path, render: Callable[[Path], dict[str, Any]]) -> None:
    (tmp_path / ".env").write_text(ENV, encoding="utf-8")
    (tmp_path / "docker-compose.yml").write_text("services: {a: {image: a, env_file: [.env]}}")
    assert render(tmp_path)["a"]["environment"] == MEANT


@pytest.mark.parametrize("line", ["PORT 8123", "PORT: 8123", "-PORT=1"])
def test_a_line_that_says_nothing_is_told(line: str) -> None:
    with pytest.raises(Fault, match=r"line 2 of \.env"):
        said_in(f"PORT=8123\n{line}\n")
