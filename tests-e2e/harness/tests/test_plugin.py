"""The plugin as a team's own suite meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

from .conftest import answer, http_server


def test_without_a_system_its_tests_skip_with_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_reads(api): ...")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*give --system compose*"])


def test_what_breaks_containers_skips_on_a_deployed_system(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_kills(parts): ...\ndef test_mails(mails): ...\ndef test_admin(system): ...")
    with http_server(lambda *_: answer(200, {})) as url:
        result = pytester.runpytest_inprocess("-rs", "--system", url)
    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines(["*not a compose project of ours*", "*no mail catcher in reach*"])


def test_its_marks_are_known_to_a_strict_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.breaks\ndef test_one(): ...\n@pytest.mark.full\ndef test_two(): ..."
    )
    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=1, skipped=1)


def test_an_unknown_kind_of_system_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_any(): ...")
    result = pytester.runpytest_inprocess("--system", "moon")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*neither compose nor embedded nor a base URL*"])


@pytest.mark.parametrize("kind", ["compose", "embedded"])
def test_what_is_no_checkout_cannot_be_started_and_is_said(kind: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_any(): ...")
    result = pytester.runpytest_inprocess("--system", kind, "--checkout", ".")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*is no checkout of Gatehouse: give --checkout DIR*"])


def test_a_run_on_a_busy_machine_says_that_it_is_incomplete_and_what_the_last_full_one_found_stays(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from gatehouse_e2e import plugin
        plugin._waiting = lambda: 7.0

        def test_one(promise): promise("back", 1, at_most=1)
        def test_two():
            plugin.require_quiet()
        """
    )
    with http_server(lambda *_: answer(200, {})) as url:
        result = pytester.runpytest_inprocess("--system", url)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["INCOMPLETE: *::test_two needs a quiet machine: 7 programs wait for each core*"]
    )
    assert "incomplete: 1 needs a quiet machine" in (pytester.path / "report/report.html").read_text()
    assert len(json.loads((pytester.path / "report/results.json").read_text())["unjudged"]) == 1
    assert not (pytester.path / "results").exists()


def test_a_missed_promise_fails_the_test_and_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_rows(promise):
            for seconds in (0.5, 2.0, 1.0):
                promise("back", seconds, at_most=1)
            promise("share", 100, at_least=99, unit="%")
        """
    )
    with http_server(lambda *_: answer(200, {})) as url:
        result = pytester.runpytest_inprocess("--system", url, "--full")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["back * 2 s * <= 1  missed (3 rounds)"])
    rows = json.loads((pytester.path / "results/latest.json").read_text())["promises"]
    assert [(row["name"], row["measured"], row["verdict"]) for row in rows] == [
        ("back", 2.0, "missed"),
        ("share", 100, "kept"),
    ]
    page = (pytester.path / "report/report.html").read_text()
    assert '<td class="missed">missed</td>' in page
    assert "http-equiv" not in page
    assert "src=" not in page


def test_a_report_that_another_run_is_writing_stays_its_own(pytester: pytest.Pytester) -> None:
    """The inner run begins and ends while the outer one goes on; both come from one folder."""
    inner = "import subprocess, sys\ndef test_outer(system): assert subprocess.run({command}).returncode == 0"
    with http_server(lambda *_: answer(200, {})) as url:
        command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "--system", url, "test_inner.py"]
        pytester.makepyfile(
            test_inner="def test_inner(system): ...", test_outer=inner.format(command=command)
        )
        result = pytester.runpytest_subprocess("-p", "no:schemathesis", "--system", url, "test_outer.py")
    result.assert_outcomes(passed=1)
    (beside,) = pytester.path.glob("report-*")
    for folder, its_own, other in ((pytester.path / "report", "outer", "inner"), (beside, "inner", "outer")):
        for name in ("report.html", "junit.xml"):
            assert f"test_{its_own}" in (folder / name).read_text()
            assert f"test_{other}" not in (folder / name).read_text()


def test_what_an_earlier_run_kept_of_a_failure_is_gone_once_the_test_passes(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_well(system): ...")
    kept = pytester.path / "report/containers/test_well/gateway-1.log"
    kept.parent.mkdir(parents=True)
    kept.write_text("long ago")
    with http_server(lambda *_: answer(200, {})) as url:
        pytester.runpytest_inprocess("--system", url).assert_outcomes(passed=1)
    assert not kept.exists()


SLOW_TO_END = """
import os, pathlib, signal, sys, time
print("Gatehouse is up: http://localhost:1    API document: -    mail it sends: http://localhost:2", flush=True)
def end(*_):
    time.sleep(1)
    pathlib.Path("ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.pause()
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_however_often_it_is_interrupted_a_run_ends_what_it_started(
    ending: signal.Signals, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("deploy").joinpath("embedded").mkdir()
    (pytester.path / "deploy/embedded/run.py").write_text(SLOW_TO_END)
    pytester.makepyfile(
        "import pathlib, time\ndef test_long(): pathlib.Path('begun').touch(); time.sleep(600)"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "--system", "embedded"]
    with subprocess.Popen(
        [*command, "--checkout", "."], stdout=subprocess.PIPE, cwd=pytester.path, text=True
    ) as run:
        try:
            until((pytester.path / "begun").exists, 120, "the test has begun")
            for _ in range(5):
                run.send_signal(ending)
                time.sleep(0.1)
            said, _ = run.communicate(timeout=120)
        finally:
            run.kill()
    assert (pytester.path / "ended").exists(), said
    assert run.returncode == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("part", [["-k", "one"], ["test_rows.py"], ["test_rows.py::test_one"]])
def test_a_part_of_a_suite_leaves_the_last_full_runs_results_alone(
    part: list[str], pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_rows="def test_one(promise): promise('back', 1, at_most=1)\ndef test_two(system): ..."
    )
    with http_server(lambda *_: answer(200, {})) as url:
        assert pytester.runpytest_inprocess("--system", url, "--full", *part).ret == 0
    assert (pytester.path / "report/results.json").exists()
    assert not (pytester.path / "results").exists()


def test_a_run_that_was_stopped_leaves_them_alone_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_one(promise):
            promise("back", 1, at_most=1)

        def test_two():
            pytest.exit("enough")
        """
    )
    with http_server(lambda *_: answer(200, {})) as url:
        assert pytester.runpytest_inprocess("--system", url, "--full").ret == pytest.ExitCode.INTERRUPTED
    assert (pytester.path / "report/results.json").exists()
    assert not (pytester.path / "results").exists()


def test_a_broken_invariant_fails_the_test_and_its_plot_is_in_the_page(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time
        from gatehouse_e2e.api import Person
        from gatehouse_e2e.load import ReadRefused, Share

        def test_forged(load):
            somebody = Person("1", "", "", "", "10.0.0.1")
            with load(Share(50, ReadRefused("forged", [somebody]))).running() as seen, seen.span("told"):
                while not seen.exchanges:
                    time.sleep(0.01)
        """
    )
    with http_server(lambda *_: answer(200, {"id": "1"})) as url:
        result = pytester.runpytest_inprocess("--system", url)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no success for a bad or revoked token*"])
    assert "<svg" in (pytester.path / "report/report.html").read_text()
    plots = pytester.path / "report/plots"
    [first, *_] = (plots / "test_forged-0.jsonl").read_text().splitlines()
    assert json.loads(first)["operation"] == "read (forged)"
    assert [span["name"] for span in json.loads((plots / "test_forged-0.spans.json").read_text())] == ["told"]


def test_parallel_workers_share_the_system(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_any(system, n): ..."
    )
    with http_server(lambda *_: answer(200, {})) as url:
        result = pytester.runpytest_subprocess("--system", url, "-n2", "-p", "no:schemathesis")
    result.assert_outcomes(passed=4)


def test_a_person_is_never_made_twice(tmp_path: Path) -> None:
    factories = [People("http://localhost:1") for _ in range(3)]
    emails = {factory.stranger().email for factory in factories for _ in range(50)}
    assert len(emails) == 150
    addresses = [factories[0].address() for _ in range(1000)]
    assert len(set(addresses)) == 1000
