"""Many processes behave as one program: heard together, stopped together, missed when one dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# What a person runs: two parts, `late` notes when it stops, `store` when it does.
PROGRAM = """
import sys, tempfile
sys.path.insert(0, {here!r})
from supervisor import Fault, Stopped, Supervisor
try:
    with tempfile.TemporaryFile() as lock, Supervisor(keep_open=lock.fileno()) as supervisor:
        for name, command in {parts!r}:
            supervisor.start(name, [sys.executable, "-c", command], store=name == "store")
        supervisor.say("started")
        while True:
            supervisor.attend(seconds=5)
except Stopped:
    print("stopped")
except Fault as fault:
    sys.exit(f"fault: {{fault}}")
"""
PATIENT = """
import os, signal, sys, time
def end(*_):
    time.sleep({takes}); os.write(1, b"ended\\n"); os._exit(0)  # a handler that may interrupt print() itself
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid(), flush=True)
while True: time.sleep(60)
"""
QUICK, SLOW = PATIENT.format(takes=0), PATIENT.format(takes=0.5)

Program = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def program() -> Program:
    def start(*parts: tuple[str, str], **options: object) -> subprocess.Popen[str]:
        source = PROGRAM.format(here=str(Path(__file__).parents[1]), parts=list(parts))
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


def pids(running: subprocess.Popen[str], count: int) -> list[int]:
    """The parts' process ids, once each has said its own."""
    assert running.stdout is not None
    found: list[int] = []
    while len(found) < count:
        line = running.stdout.readline()
        assert line, "it ended early"
        if "| pid " in line:
            found.append(int(line.split()[-1]))
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, within five seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_part_and_the_stores_last(program: Program, number: signal.Signals) -> None:
    with program(("store", QUICK), ("late", SLOW)) as running:
        parts = pids(running, 2)
        running.send_signal(number)
        output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert (
        output.index("late         | ended") < output.index("store        | ended") < output.index("stopped")
    )
    assert all(gone(pid) for pid in parts)


def test_ctrl_c_reaches_it_although_a_shell_started_it_in_the_background(program: Program) -> None:
    ignoring = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        running = program(("late", QUICK))
    finally:
        signal.signal(signal.SIGINT, ignoring)
    with running:
        pids(running, 1)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert output.endswith("stopped\n")


def test_a_part_that_dies_is_named_with_its_last_words_and_ends_the_rest(program: Program) -> None:
    with program(
        ("late", QUICK), ("weak", "import sys; print('one', flush=True); sys.exit('no such setting')")
    ) as running:
        output, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert errors == "fault: weak stopped by itself (exit code 1): no such setting\n"
    assert "weak         | one\n" in output


def test_a_part_killed_from_outside_is_said_so(program: Program) -> None:
    with program(("weak", QUICK)) as running:
        os.kill(pids(running, 1)[0], signal.SIGKILL)
        _, errors = running.communicate(timeout=60)
    assert errors == "fault: weak stopped by itself (SIGKILL)\n"


def test_what_a_killed_part_leaves_behind_ends_too(program: Program) -> None:
    worker = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {QUICK!r}])"
    with program(("master", f"{worker}\n{QUICK}")) as running:
        both = pids(running, 2)
        os.kill(next(pid for pid in both if os.getpgid(pid) == pid), signal.SIGKILL)
        running.communicate(timeout=60)
    assert all(gone(pid) for pid in both)


def test_a_second_signal_ends_the_patience(program: Program) -> None:
    with program(("stubborn", PATIENT.format(takes=60))) as running:
        part = pids(running, 1)[0]
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert gone(part)


def test_a_terminal_that_closes_takes_nothing_with_it_that_should_not_stay(program: Program) -> None:
    with program(
        ("chatty", "import time\nwhile True: print('x' * 80, flush=True); time.sleep(.01)"), ("late", QUICK)
    ) as running:
        part = pids(running, 1)[0]
        assert running.stdout is not None
        running.stdout.close()  # nobody reads any more
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGHUP)
        assert running.wait(timeout=10) is not None
    assert gone(part)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_nothing_outlives_a_supervisor_that_is_killed(program: Program) -> None:
    with program(("late", QUICK), ("store", QUICK)) as running:
        parts = pids(running, 2)
        running.kill()
        running.communicate(timeout=60)
    assert all(gone(pid) for pid in parts)


def test_half_a_line_waits_for_its_other_half(program: Program) -> None:
    halves = (
        "import sys, time\n"
        "sys.stdout.write('first ha'); sys.stdout.flush(); time.sleep(.3); print('lf'); print('end', end='')"
    )
    with program(("writer", halves)) as running:
        output, _ = running.communicate(timeout=60)
    assert "writer       | first half\nwriter       | end\n" in output


def test_lines_that_nobody_reads_are_not_passed_on() -> None:
    source = f"""
import sys, tempfile
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from supervisor import Supervisor
with tempfile.TemporaryFile() as lock, Supervisor(keep_open=lock.fileno()) as supervisor:
    supervisor.complete("uv", ["printf", "Downloading x\\n + x==1\\n"], unsaid=" + ")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "uv           | Downloading x\n"
