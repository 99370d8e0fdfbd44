"""A test that measures time is judged on a machine that lets it run, and is said to be missing on any other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MEASURES = """
import time
import pytest
{setup}
@pytest.mark.quiet
def test_is_quick_enough():
    ends = time.thread_time() + {seconds}
    while time.thread_time() < ends:
        pass
    assert False, "too slow"

@pytest.mark.quiet
def test_is_quick():
    pass

def test_has_nothing_to_do_with_time():
    assert {other}
"""


def run(folder: Path, *, seconds: float, other: bool = True, setup: str = "") -> tuple[int, str]:
    (folder / "test_it.py").write_text(MEASURES.format(seconds=seconds, other=other, setup=setup))
    arguments = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, str(folder)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


# As the kernel tells of a thread that is kept from its core, and of one that is not.
BUSY = """
from service_kit.testing import plugin
told = iter([(0, 0), (1, 2), (0, 0)])
plugin._on_cores = lambda: next(told)
"""
QUIET = BUSY.replace("(1, 2)", "(2, 1)")


def test_a_failure_on_a_busy_machine_is_no_verdict_and_the_run_says_that_it_is_incomplete(
    tmp_path: Path,
) -> None:
    code, output = run(tmp_path, seconds=0, setup=BUSY)
    assert code == 0, output
    assert "INCOMPLETE: test_it.py::test_is_quick_enough needs a quiet machine" in output
    assert "too slow" in output
    assert "2 passed, 1 skipped" in output


def test_a_failure_on_a_quiet_machine_is_one(tmp_path: Path) -> None:
    code, output = run(tmp_path, seconds=0, setup=QUIET)
    assert code == 1
    assert "INCOMPLETE" not in output


def test_what_does_not_say_that_it_measures_time_is_judged_anywhere(tmp_path: Path) -> None:
    code, output = run(tmp_path, seconds=0, other=False, setup=BUSY)
    assert code == 1
    assert "1 failed, 1 passed, 1 skipped" in output


@given(st.integers())
@settings(max_examples=2)
def test_an_example_has_the_time_that_it_takes(number: int) -> None:
    time.sleep(0.3)  # longer than Hypothesis gives one
    assert number is not None


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="only Linux tells")
def test_the_kernel_tells_who_was_kept_from_a_core(tmp_path: Path) -> None:
    """Eight that are always busy on the one core that the test has."""
    core = min(os.sched_getaffinity(0))
    setup = f"import os; os.sched_setaffinity(0, [{core}])"
    spin = f"import os, time; os.sched_setaffinity(0, [{core}]); time.sleep(0)\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(8)]
    try:
        code, output = run(tmp_path, seconds=0.1, setup=setup)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert code == 0, output
    assert "INCOMPLETE: test_it.py::test_is_quick_enough" in output
