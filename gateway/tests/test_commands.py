"""What an operator asks: the commands about routes, the check of what is installed, the sampled log."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.http1.head import BadRequest, Head
from gateway.policy.proxy_request import ProxyRequest
from gateway.server import compatibility
from gateway.server.access_log import AccessLog
from gateway.server.compatibility import IncompatibleVersion
from service_kit.logs import Short

ROUTES = """
[[routes]]
name = "things.mine"
path = "/things/mine"
methods = ["GET"]
roles = ["owner"]
limit = { rate = 5, per_seconds = 60, burst = 2 }

[[routes]]
name = "things.one"
path = "/things/{id}"
methods = ["GET"]
access = "public"
rewrite = "/v2/{id}"
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "things" / "things.toml"
    file.parent.mkdir()
    file.write_text(ROUTES)
    monkeypatch.setenv("ROUTES_DIR", str(tmp_path))
    monkeypatch.setenv("UPSTREAMS", '{"things": "10.0.0.7:8000"}')
    return file


def explained(capsys: pytest.CaptureFixture[str], *request: str) -> tuple[int, str]:
    code = main(["routes", "explain", *request])
    return code, capsys.readouterr().out


def test_explain_says_the_rule_its_line_its_service_and_who_may_pass(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = explained(capsys, "GET", "/things/mine?q=1")
    assert code == 0
    assert f"{table}:2" in said
    assert "things at 10.0.0.7:8000, as GET /things/mine?q=1" in said
    assert "a valid token with role owner" in said
    assert "5 in 60 s, 2 at once, for each caller" in said
    assert "/things/mine is more exact than /things/{id}" in said


@pytest.mark.parametrize("verb", [("list",), ("explain", "GET", "/things/7")])
def test_a_reader_that_has_read_enough_gets_no_traceback(table: Path, verb: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = (sys.executable, "-m", "gateway", "routes", *verb)
    ended = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(theirs)
    assert ended.stderr == b""


def test_explain_shows_where_a_path_is_moved_to(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = explained(capsys, "GET", "/things/7")
    assert code == 0
    assert "as GET /v2/7" in said
    assert "everybody" in said


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/nothing", "404 no_route"),
        ("DELETE", "/things/mine", "Allow: GET, HEAD"),
        ("GET", "/things/../things/mine", "400"),
        ("BREW", "/things/mine", "501 method_not_implemented"),
    ],
)
def test_explain_says_why_a_request_goes_nowhere(
    table: Path, capsys: pytest.CaptureFixture[str], method: str, path: str, said: str
) -> None:
    code, told = explained(capsys, method, path)
    assert code == 1
    assert said in told


def test_check_names_file_line_and_reason(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes", "check"]) == 0
    table.write_text(ROUTES.replace('roles = ["owner"]', "rolls = 1"))
    assert main(["routes", "check"]) == 1
    assert f"{table}:6: rolls: there is no such field" in capsys.readouterr().err


def test_check_and_list_say_what_is_refused_and_go_on_with_the_rest(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (table.parents[1] / "copy").mkdir()
    (table.parents[1] / "copy" / "routes.toml").write_text(ROUTES.replace("things.", "copy."))
    (table.parent / "published").write_text("2026-11-30T12:00:00.000001Z\n")
    assert main(["routes", "check"]) == 1
    said = capsys.readouterr()
    assert "refused: copy: " in said.err
    assert f"overlaps /things/mine (things.mine) of {table}:2" in said.err
    assert "2 routes of" in said.out
    assert main(["routes", "list"]) == 0
    assert "refused: copy: " in capsys.readouterr().err


def test_list_shows_every_route_and_none_of_the_gateways_own(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["routes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["/things/mine", "/things/{id}"]


def test_the_edge_does_not_start_on_another_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    compatibility.check()
    monkeypatch.setattr(compatibility, "version", lambda name: "0.55.0" if name == "uvicorn" else "")
    with pytest.raises(
        IncompatibleVersion, match=r"uvicorn 0\.55\.0 is installed, and the gateway was written for"
    ):
        compatibility.check()


def test_the_edge_does_not_start_where_protocols_are_made_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "HttpToolsProtocol", lambda config, server_state: None)
    with pytest.raises(IncompatibleVersion, match="makes its HTTP protocols from"):
        compatibility.check()


def test_a_quarter_of_the_served_requests_has_a_line_and_every_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    access_log = AccessLog(0.25)
    request = ProxyRequest(Head(b"GET", b"/", True))
    for _ in range(100):
        access_log.record(request, 200, 0, 0.0)
    for _ in range(3):
        access_log.record(request, 502, 0, 0.0, "bad_answer")
    access_log.flush()
    lines = "\n".join(record.getMessage() for record in caplog.records).splitlines()
    assert sum(" 200 " in line for line in lines) == 25
    assert sum("bad_answer" in line for line in lines) == 3
    assert sum(series.count for series in access_log.series.values()) == 103


def test_a_short_line_is_what_happened_and_when(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler(), caplog.handler])
    logging.getLogger().handlers[0].setFormatter(Short("gateway"))
    access_log = AccessLog(1)
    request = ProxyRequest(Head(b"GET", b"/v1/users/ada@example.com", True))
    access_log.record(request, 200, 0, 0.0)
    access_log.record(request, 502, 0, 0.0, "bad_answer")
    access_log.refused(b"127.0.0.1", b"of-a-test", BadRequest())
    access_log.flush()
    served, failed, unread = "\n".join(record.getMessage() for record in caplog.records).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /v1/users/\(address\) 200 \d+\.\d{4} s", served)
    assert failed.endswith(" s bad_answer")
    assert re.fullmatch(r"\d\d:\d\d:\d\d unread 400 client=127.0.0.1 code=\w+", unread)
