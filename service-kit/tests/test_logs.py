"""One line per event, whole and readable, whatever it says and however many processes write."""

import json
import logging
import multiprocessing
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

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


async def test_what_an_exception_says_forges_no_line_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceSettings(log_format="text"), "orders")
    try:
        raise ValueError("first\n2026-11-28T00:00:00.000+00:00 ERROR forged\x1b[2J\udc80")
    except ValueError:
        logging.getLogger("example").exception("failed")
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.endswith("example: failed")
    assert any("ValueError: first" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


async def test_a_short_line_has_what_is_needed_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceSettings(log_format="short"), "orders")
    await log_within_a_request("sold\nout")
    logging.getLogger("example").warning("sold out", extra={"count": 3})
    try:
        raise ValueError("first\nERROR forged\x1b[2J")
    except ValueError:
        logging.getLogger("example").exception("failed")
    said, warned, failed, *rest = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d sold\\nout", said)
    assert warned[8:] == " WARNING sold out count=3"
    assert failed[8:] == " ERROR failed"
    assert all(line.startswith("    ") for line in rest)
    assert "ValueError: first" in "".join(rest)
    assert "\x1b" not in "".join(rest)


EXTRA = {
    "event": "sign-in",
    "count": 3,
    "reason": "",
    "actor": "ada@example.com",
    "level": "forged",
    "said": "a\nb",
}


def test_what_is_given_as_extra_is_a_member_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceSettings(log_format="json"), "orders")
    logging.getLogger("example").info("refused", extra=EXTRA)
    said = json.loads(capsys.readouterr().out)
    assert said["message"] == "refused"
    assert (said["event"], said["count"], said["reason"], said["said"]) == ("sign-in", 3, "", "a\nb")
    assert said["actor"] == "(address)"
    assert said["level"] == "INFO"  # a line's own members cannot be replaced
    assert not said.keys() & {"args", "msg", "levelno", "taskName", "created"}


def test_what_is_given_as_extra_is_readable_in_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceSettings(log_format="text"), "orders")
    logging.getLogger("example").info("refused", extra=EXTRA)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"refused event=sign-in count=3 actor=(address) level=forged said=a\nb")


@pytest.mark.parametrize("written", ["ada@example.com", "ada%40example.com", "a@b@c"])
def test_an_address_in_a_path_is_not_logged(written: str) -> None:
    assert logs.nameless(f"/v1/users/{written}/avatar") == "/v1/users/(address)/avatar"
    assert logs.nameless("/v1/users/me") == "/v1/users/me"


async def test_each_request_is_a_line_and_a_probe_only_when_it_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(ServiceSettings(log_format="json"), "orders")
    for path, status in [("/v1/orders", 200), ("/readyz", 200), ("/readyz", 503)]:

        async def app(_scope: Scope, _receive: Receive, send: Send, status: int = status) -> None:
            await send({"type": "http.response.start", "status": status})

        async def nowhere(_message: Message) -> None: ...

        scope = {"type": "http", "method": "GET", "path": path}
        await logs.AccessLogMiddleware(app)(scope, None, nowhere)  # type: ignore[arg-type] # nothing is received
    said = [json.loads(line)["message"].split()[1:3] for line in capsys.readouterr().out.splitlines()]
    assert said == [["'/v1/orders'", "200"], ["'/readyz'", "503"]]


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


def test_a_log_file_that_cannot_be_written_fails_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "logs" / "orders.log"
    file.parent.mkdir()
    logs.configure(ServiceSettings(log_format="json", log_file=file), "orders")
    shutil.rmtree(file.parent)
    logging.getLogger("example").info("the work goes on")
    assert "the work goes on" in capsys.readouterr().out
