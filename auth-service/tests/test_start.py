"""Starting with secret files as editors, shells and mistakes leave them."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ISSUER, Service

from auth_service.config import Settings
from service_kit.settings import is_secret

NAMES = sorted(name for name, field in Settings.model_fields.items() if is_secret(field))


def settings_in(folder: Path) -> "subprocess.CompletedProcess[str]":
    """The settings read by a process of its own, which prints every secret."""
    code = "from auth_service.config import Settings; from service_kit.settings import load\n"
    code += (
        f"settings = load(Settings)\nprint([getattr(settings, name).get_secret_value() for name in {NAMES}])"
    )
    environment = {"PATH": os.environ["PATH"], "SECRETS_DIR": str(folder), "PUBLIC_URL": ISSUER}
    environment["REVOCATIONS_REDIS_URL"] = "redis://127.0.0.1:1/0"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_newline_at_the_end_of_a_secret_is_no_part_of_it(tmp_path: Path, ending: str) -> None:
    assert {"refresh_key", "key_encryption_key_previous", "device_key", "redis_password"} <= set(NAMES)
    for name in NAMES:
        (tmp_path / name).write_bytes(f"{'k' * 40}{ending}".encode())
    assert settings_in(tmp_path).stdout.strip() == str(["k" * 40] * len(NAMES))


@pytest.mark.parametrize("content", ["", "\n", "short"])
def test_an_empty_or_short_secret_is_one_clear_line_and_a_failure(tmp_path: Path, content: str) -> None:
    for name in NAMES:
        (tmp_path / name).write_text("k" * 40)
    (tmp_path / "device_key").write_text(content)
    assert_one_line_about("device_key", settings_in(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_whichever_secret_is_empty_is_named(tmp_path: Path, name: str) -> None:
    for each in NAMES:
        (tmp_path / each).write_text("" if each == name else "k" * 40)
    assert_one_line_about(name, settings_in(tmp_path))


def assert_one_line_about(name: str, ended: "subprocess.CompletedProcess[str]") -> None:
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert re.search(rf"\b{name}\b", line.lower())
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("behind", [2, 29])
async def test_a_fresh_token_is_good_at_a_verifier_whose_clock_is_behind(
    service: Service, behind: int
) -> None:
    token = (await service.sign_in())["access_token"].encode()
    await service.parts.authenticator.verifier.identify(token)
    verifier = service.parts.authenticator.verifier
    assert verifier.verify(token, time.time() - behind).session_id == service.session_of(token.decode())
