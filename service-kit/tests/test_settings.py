"""A setting is read from the environment, a secret from its file, and a broken one is one clear line."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, ValidationError

from service_kit.settings import ServiceSettings, VerifierSettings, load, misspelt
from service_kit.worker import gunicorn_options


class Example(ServiceSettings, VerifierSettings):
    api_key: SecretStr
    other_key: SecretStr | None = None
    limits: dict[str, int] = Field(default_factory=dict)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every setting that must be there is, and SECRETS_DIR is this folder."""
    for name, value in {
        "SECRETS_DIR": str(tmp_path),
        "PUBLIC_URL": "http://localhost:8080",
        "JWKS_URL": "http://auth-service:8000/.well-known/jwks.json",
        "REVOCATIONS_REDIS_URL": "redis://redis:6379/0",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "api_key").write_text("a secret")
    return tmp_path


Complaint = Callable[[], str]


@pytest.fixture
def complaint(folder: Path, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """The one line on stderr with which the process ends."""

    def fails() -> str:
        with pytest.raises(SystemExit) as ending:
            load(Example)
        assert ending.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return fails


@pytest.mark.parametrize("text", ["a secret", "a secret\n", "a secret\r\n"])
def test_the_newline_at_a_secrets_end_is_not_part_of_it(folder: Path, text: str) -> None:
    (folder / "api_key").write_bytes(text.encode())
    assert load(Example).api_key.get_secret_value() == "a secret"


@pytest.mark.parametrize("text", ["\n a secret \n", "a secret\n\n", "a\nsecret"])
def test_nothing_else_of_a_secret_is_cleaned(folder: Path, text: str) -> None:
    (folder / "api_key").write_text(text)
    assert load(Example).api_key.get_secret_value() == text.removesuffix("\n")


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n", b" \n\t"])
@pytest.mark.parametrize("name", ["api_key", "other_key"])
def test_an_empty_secret_is_one_clear_line(
    folder: Path, complaint: Complaint, name: str, text: bytes
) -> None:
    (folder / name).write_bytes(text)
    assert complaint() == f"broken setting: secret {name}: the file is empty"


def test_a_missing_or_unreadable_secret_is_one_clear_line(folder: Path, complaint: Complaint) -> None:
    (folder / "api_key").unlink()
    assert complaint() == "broken setting: secret api_key: no such file in SECRETS_DIR"
    (folder / "api_key").mkdir()
    assert complaint() == "broken setting: secret api_key: IsADirectoryError"
    (folder / "api_key").rmdir()
    (folder / "api_key").write_bytes(b"\xff\xfe")
    assert complaint() == "broken setting: secret api_key: UnicodeDecodeError"


def test_a_secret_comes_from_its_file_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "from the environment")
    monkeypatch.setenv("OTHER_KEY", "from the environment")
    settings = load(Example)
    assert settings.api_key.get_secret_value() == "a secret"
    assert settings.other_key is None
    assert "a secret" not in repr(settings)


NO_NUMBER = "Input should be a valid integer, unable to parse string as an integer"
NO_URL = "must be like http://127.0.0.1:9000/path, without credentials"
NO_REDIS = "must be like redis://127.0.0.1:6379/0, without credentials"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PUBLIC_URL", "", "PUBLIC_URL: must be set"),
        ("PUBLIC_URL", "http://canary/path", "PUBLIC_URL: must have no path, no query and no slash at its end"),
        ("PUBLIC_URL", "canary", "PUBLIC_URL: must be like https://api.example.com or http://localhost:8080"),
        ("PUBLIC_PORT", "canary", f"PUBLIC_PORT: {NO_NUMBER}"),
        ("INTERNAL_PORT", "8000", "PUBLIC_PORT and INTERNAL_PORT must differ"),
        ("GRACEFUL_SECONDS", "3", "GRACEFUL_SECONDS must be at least DRAIN_SECONDS + 2"),
        ("TOKEN_LEEWAY_SECONDS", "61", "TOKEN_LEEWAY_SECONDS: Input should be less than or equal to 60"),
        ("GATEWAY_PEERS", "gateway, 10.0.0", "GATEWAY_PEERS: entry 2 is neither an address, a CIDR nor a host name"),
        ("LIMITS", "canary", 'error parsing value for field "limits" from source "EnvSettingsSource"'),
        ("LIMITS", '{"canary": "canary"}', f"LIMITS: {NO_NUMBER}"),
        ("JWKS_URL", "canary", f"JWKS_URL: {NO_URL}"),
        ("JWKS_URL", "http://user:canary@auth/", f"JWKS_URL: {NO_URL}"),
        ("REVOCATIONS_REDIS_URL", "canary:6379", f"REVOCATIONS_REDIS_URL: {NO_REDIS}"),
        ("REVOCATIONS_REDIS_URL", "redis://:canary@redis", f"REVOCATIONS_REDIS_URL: {NO_REDIS}"),
        ("LOG_FILE", "/canary/of/tests.log", "LOG_FILE: its folder is not there or cannot be written to"),
        ("LOG_LEVEL", "canary", "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)  # fmt: skip
def test_a_broken_setting_is_one_clear_line_without_its_value(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)
    said = complaint()
    assert said == f"broken setting: {line}"
    assert "canary" not in said


def test_every_broken_setting_is_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUBLIC_PORT", "0")
    monkeypatch.setenv("WORKERS", "0")
    with pytest.raises(SystemExit):
        load(Example)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_empty_variable_is_absent_and_lists_are_read_either_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FILE", "")
    monkeypatch.setenv("GATEWAY_PEERS", "gateway, 10.0.0.0/8 ::1")
    monkeypatch.setenv("ISSUERS_ALSO_ACCEPTED", '{"https://old.example.com": "2026-12-31"}')
    settings = load(Example)
    assert settings.log_file is None
    assert settings.gateway_peers == ("gateway", "10.0.0.0/8", "::1")
    assert settings.issuers_also_accepted == {"https://old.example.com": date(2026, 12, 31)}


@pytest.mark.parametrize(
    "change", [{"public_url": "x"}, {"unknown": 1}, {"api_key": SecretStr("x"), "workers": 0}]
)
def test_what_is_passed_in_is_held_to_the_same_rules(folder: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Example(**change)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(load(Example), "workers", 2)  # noqa: B010 - mypy knows that it is refused


@pytest.mark.parametrize("count", ["3", "-1", "two", "1.5"])
def test_more_replicas_than_the_proof_holds_for_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint, count: str
) -> None:
    monkeypatch.setenv("REDIS_REPLICAS", count)
    assert complaint().startswith("broken setting: REDIS_REPLICAS: ")


def test_with_replicas_the_ceiling_leaves_time_for_a_proof(
    folder: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    monkeypatch.setenv("REDIS_REPLICAS", "2")
    assert load(Example).redis_replicas == 2
    monkeypatch.setenv("REVOCATION_CEILING_SECONDS", "5")
    assert "REVOCATION_CEILING_SECONDS must be at least 10" in complaint()


@pytest.mark.parametrize(
    "variable", ["LOG_LEVLE", "GATEWAY_PEER", "REDIS_REPLCAS", "jwks_lifetime_second", "API_KEYS"]
)
def test_a_variable_that_is_nearly_a_setting_is_told_with_it(variable: str) -> None:
    ((said, near),) = misspelt(Example, ["LOG_LEVEL", "log_level", "HOME", "PATH", variable])
    assert said == variable
    assert near.lower() in Example.model_fields


@pytest.mark.parametrize(
    "variable", ["LOGNAME", "HOSTNAME", "WORKSPACE", "REDIS_URL", "PUBLIC_IP", "PYTHONPATH"]
)
def test_a_variable_of_somebody_else_is_not(variable: str) -> None:
    assert not list(misspelt(Example, [variable]))


def test_a_service_warns_of_it_when_it_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_PEER", "gateway")
    monkeypatch.setenv("METRICS_DIR", str(folder))
    gunicorn_options(load(Example), "orders")
    assert "nobody reads GATEWAY_PEER: did you mean GATEWAY_PEERS?" in capsys.readouterr().out
