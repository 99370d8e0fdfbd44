"""Programs under measurement: pinned to cores, their processor time and memory read, stopped by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> Callable[[], bool]:
    def connects() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return connects


class Program:
    """A running command with its children; what it prints goes to a file in its folder."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        cores: frozenset[int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.name = name
        self._output = folder / "output.log"
        self._started = time.monotonic()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> float:
        """Seconds from the start until `ready`; one that never gets there is an error with its output."""
        while not ready():
            if self._process.poll() is not None or time.monotonic() - self._started > seconds:
                raise RuntimeError(
                    f"{self.name} did not start:\n{self._output.read_text(errors='replace')[-4000:]}"
                )
            time.sleep(0.005)
        return time.monotonic() - self._started

    def pids(self) -> list[int]:
        """The process and all its descendants, parents first."""
        parents = _parents()
        found = [self._process.pid]
        for parent in found:
            found += [pid for pid, of in parents.items() if of == parent]
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, children included."""
        return sum(map(_cpu_seconds, self.pids()))

    def worker(self) -> int:
        """The process that serves: the last descendant of a master with one worker."""
        return self.pids()[-1]

    def stop(self) -> None:
        for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)  # its own session: only what it started itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return


def _parents() -> dict[int, int]:
    """Every process's parent; /proc/<pid>/task/*/children would say it too, but not on every kernel."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return parents


def _cpu_seconds(pid: int) -> float:
    # The clock that clock_getcpuclockid(3) names: what utime + stime in /proc/<pid>/stat add up to, before
    # they are rounded to 10 ms, which at 50 requests a second would be all there is to see.
    return time.clock_gettime(~pid << 3 | 2)


class Memory:
    """Resident memory of one process, in bytes: what it holds, and the most it held since a mark."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def resident(self) -> int:
        return self._field("VmRSS")

    def mark(self) -> None:
        (self._folder / "clear_refs").write_text("5")  # the peak becomes what is resident now

    def peak(self) -> int:
        return self._field("VmHWM")

    def _field(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@contextlib.contextmanager
def stopping() -> Iterator[list[Program]]:
    """A list of programs; whatever it holds is stopped, last started first, however the block ends."""
    programs: list[Program] = []
    try:
        yield programs
    finally:
        for program in reversed(programs):
            program.stop()
