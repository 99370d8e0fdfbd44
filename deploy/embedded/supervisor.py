"""Child processes as one: their output merged, stopped together in the right order, none left behind."""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

STOP_SECONDS = 30
COLOURS = (36, 33, 32, 35, 34, 31)
PR_SET_PDEATHSIG = 1

Environment = Mapping[str, str] | None


class Fault(Exception):
    """What went wrong, in one line for the person who started it."""


class Stopped(Exception):
    """Somebody asked for the end: Ctrl-C, a SIGTERM, a closed terminal."""


@dataclass(eq=False)
class Child:
    """One running part."""

    name: str
    process: subprocess.Popen[bytes]
    store: bool
    essential: bool
    colour: int
    unfinished: bytes = b""  # output since the last line break
    said: str = "nothing"  # its last line
    unsaid: str = ""  # its lines that begin so are not passed on

    def ending(self) -> str:
        """How it ended, and the last thing it said if it had a say in it."""
        code = self.process.returncode
        return f"(exit code {code}): {self.said}" if code >= 0 else f"({signal.Signals(-code).name})"

    def kill(self) -> None:
        """End the part and all that it started, such as workers that outlived their master."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Single-threaded: one selector waits for output, for a child's end and for signals."""

    def __init__(self, keep_open: int) -> None:
        self._keep_open = keep_open  # a descriptor that stays open as long as any child lives
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._asked: list[int] = []
        self._speaking = True

    def __enter__(self) -> Self:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._selector.register(reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # Set also where a shell started us in the background with SIGINT ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that a child's end wakes the selector
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.clear()
        self._stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Environment = None,
        *,
        store: bool = False,
        essential: bool = True,
        sockets: Sequence[socket.socket] = (),
    ) -> Child:
        """Start a part; a store is stopped last. Unless it is essential, its end is for whoever started it to see."""
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
                pass_fds=(self._keep_open, *(each.fileno() for each in sockets)),
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise Fault(f"{name} cannot be started: {error}") from error
        assert process.stdout is not None
        child = Child(name, process, store, essential, COLOURS[len(self._children) % len(COLOURS)])
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        self._children.append(child)
        return child

    def complete(
        self, name: str, command: Sequence[str], environment: Environment = None, *, unsaid: str = ""
    ) -> None:
        """Run a preparation to its end."""
        child = self.start(name, command, environment, essential=False)
        child.unsaid = unsaid
        while not self.ended(child):
            self.attend(1)
        if child.process.returncode:
            raise Fault(f"{name} failed {child.ending()}")

    def ended(self, child: Child) -> bool:
        """Whether a part that is not essential has ended; then it is heard out, and what it left behind ends, too."""
        if child.process.poll() is None:
            return False
        if child in self._children:
            child.kill()
            self._read(child)
            self._children.remove(child)
        return True

    def stop(self, child: Child, patience: float = STOP_SECONDS) -> Iterator[None]:
        """Ask the part to end, and make it when the patience is over. Each step is a moment for others."""
        child.essential = False
        child.process.terminate()
        deadline = time.monotonic() + patience
        while not self.ended(child):
            if time.monotonic() > deadline:
                child.kill()
            yield

    def attend(self, seconds: float) -> None:
        """Pass on what the children say, at most so long; raise Stopped or Fault when it is time to end."""
        self._turn(seconds)
        if self._asked:
            raise Stopped
        for child in self._children:
            if child.essential and child.process.poll() is not None:
                self._read(child)
                raise Fault(f"{child.name} stopped by itself {child.ending()}")

    def say(self, text: str) -> None:
        """A closed terminal or pipe ends the talking, not the work."""
        if self._speaking:
            try:
                print(text, flush=True)
            except OSError:
                self._speaking = False

    def _note(self, number: int, _: FrameType | None) -> None:
        self._asked.append(number)

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._read(key.data)
            else:
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    def _read(self, child: Child) -> None:
        """Say every whole line; the rest when it is complete or the child is gone."""
        output = child.process.stdout
        assert output is not None
        if output.closed:
            return
        while (block := self._block(output.fileno())) is not None:
            *lines, child.unfinished = (child.unfinished + block).split(b"\n")
            if not block:
                self._selector.unregister(output)
                output.close()
                lines.append(child.unfinished)
            for line in lines:
                self._say_for(child, line.decode(errors="replace").rstrip())
            if not block:
                return

    @staticmethod
    def _block(descriptor: int) -> bytes | None:
        try:
            return os.read(descriptor, 65536)
        except BlockingIOError:
            return None

    def _say_for(self, child: Child, line: str) -> None:
        if line:
            child.said = line
        if line and not (child.unsaid and line.startswith(child.unsaid)):
            name = f"{child.name:<12} |"
            self.say(f"\x1b[{child.colour}m{name}\x1b[0m {line}" if sys.stdout.isatty() else f"{name} {line}")

    def _stop(self) -> None:
        """Services first, so that their last requests find the stores; a second signal ends the patience."""
        for stores in (False, True):
            group = [child for child in self._children if child.store is stores]
            for child in group:
                child.process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while any(child.process.poll() is None for child in group):
                self._turn(0.2)
                if self._asked or time.monotonic() > deadline:
                    for child in group:
                        child.kill()
            for child in group:
                child.kill()
                self._read(child)


def end_with_parent() -> None:
    """In the child, on Linux: get a SIGTERM when the supervisor is killed, so that nothing outlives it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
