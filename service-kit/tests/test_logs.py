"""One line per event, whole and readable, whatever it says and however many processes write."""

import json
import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_kit import logs
from service_kit.settings import ServiceSettings
from service_kit.tracing import RequestContext


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)


async def log_within_a_request(message: str) -> None:
    async def app(*_: object) -> None:
        logging.getLogger("example").info(message)

    headers = [(b"x-request-id", b"request-of-a-test")]
    await RequestContext(app)({"type": "http", "headers": headers}, None, None)  # type: ignore[arg-type] # unused


async def test_a_json_line_says_who_when_where_and_for_which_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(ServiceSettings(log_format="json"), "orders")
    await log_within_a_request("sold\nout")
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["message"] == "sold\nout"
    assert said["request_id"] == "request-of-a-test"
    assert len(said["trace_id"]) == 32
    assert said["path"].endswith(("test_logs.py:" + said["path"].rpartition(":")[2],))
    assert {"time", "level", "service", "process", "thread", "logger"} <= said.keys()


async def test_nothing_that_is_logged_forges_a_line_or_moves_the_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(ServiceSettings(log_format="text"), "orders")
    await log_within_a_request("café\nERROR forged\x1b[2J\x9b2J\u2028")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert r"café\nERROR forged\x1b[2J\x9b2J\u2028" in out
    assert "request_id=request-of-a-test" in out


@pytest.mark.parametrize("written", ["ada@example.com", "ada%40example.com", "a@b@c"])
def test_an_address_in_a_path_is_not_logged(written: str) -> None:
    assert logs.nameless(f"/v1/users/{written}/avatar") == "/v1/users/(address)/avatar"
    assert logs.nameless("/v1/users/me") == "/v1/users/me"


def write_lines(file: Path, name: str, count: int) -> None:
    logs.configure(
        ServiceSettings(log_format="json", log_file=file, log_file_bytes=20_000, log_file_backups=50),
        "orders",
    )
    for number in range(count):
        logging.getLogger("example").info("%s %d", name, number)


def test_workers_share_one_rotating_file_and_lose_no_line(tmp_path: Path) -> None:
    file = tmp_path / "orders.log"
    processes = multiprocessing.get_context("spawn")
    writers = [processes.Process(target=write_lines, args=(file, name, 400)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    files = [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    lines = [json.loads(line)["message"] for path in files for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(400))
    assert len(files) > 2
    assert max(path.stat().st_size for path in files) <= 20_000
