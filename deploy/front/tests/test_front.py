"""The port's owner: who of the gateways has its socket, and what becomes of those who come while nobody has."""

import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "front.py"
READY, LEAVING = b"+", b"-"
SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A front of one's own."""

    def __init__(self, folder: str) -> None:
        self.port, self.path = free_port(), Path(folder) / "socket"
        self._opened = ExitStack()

    def start(self) -> None:
        command = [sys.executable, "-I", str(PROGRAM), "127.0.0.1", str(self.port), str(self.path), "1"]
        self.process = self._opened.enter_context(subprocess.Popen(command))

    def gateway(self, said: bytes = b"") -> "Gateway":
        ends = time.monotonic() + SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.path))
            except OSError:
                connection.close()
                assert time.monotonic() < ends
                time.sleep(0.01)
            else:
                connection.sendall(said)
                return self._opened.enter_context(Gateway(connection))

    def client(self) -> socket.socket:
        return self._opened.enter_context(socket.create_connection(("127.0.0.1", self.port), SECONDS))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._opened.close()


class Gateway(ExitStack):
    """One that has asked."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = self.enter_context(connection)
        self._connection.settimeout(SECONDS)

    def say(self, what: bytes) -> None:
        self._connection.sendall(what)

    def socket(self) -> socket.socket:
        """The socket, once it is passed on."""
        said, passed, _, _ = socket.recv_fds(self._connection, 1, 1)
        assert said, "front is gone, or has let go"
        listener = self.enter_context(socket.socket(fileno=passed[0]))
        listener.listen()
        listener.settimeout(SECONDS)
        return listener

    def is_let_go(self) -> None:
        with suppress(ConnectionResetError):
            assert self._connection.recv(1) == b""

    def hears_nothing(self, seconds: float = 0.2) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            return not selector.select(seconds)


@pytest.fixture
def front() -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is at most 107 bytes long
        running = Running(folder)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def test_two_gateways_accept_from_one_queue_and_see_the_callers_own_address(front: Running) -> None:
    first, second = front.gateway(READY).socket(), front.gateway(READY).socket()
    for listener in (first, second):
        client = front.client()
        accepted, address = listener.accept()
        with accepted:
            assert address == client.getsockname()
            assert accepted.getsockname() == ("127.0.0.1", front.port)


def test_nothing_that_connected_is_lost_when_a_gateway_closes_the_socket(front: Running) -> None:
    old, new = front.gateway(READY), front.gateway(READY)
    listener, follower = old.socket(), new.socket()
    clients = [front.client() for _ in range(20)]
    old.close()
    assert listener.fileno() == -1
    clients += [front.client() for _ in range(20)]
    for client in clients:
        accepted, address = follower.accept()
        accepted.close()
        assert address == client.getsockname()


def test_a_gateway_that_is_not_ready_has_it_only_while_nobody_else_has(front: Running) -> None:
    alone = front.gateway()
    alone.socket()
    starting = front.gateway()
    assert starting.hears_nothing()
    ready = front.gateway(READY)
    ready.socket()
    alone.close()
    assert starting.hears_nothing()
    ready.close()
    starting.socket()


def test_one_that_becomes_ready_has_it_beside_the_others(front: Running) -> None:
    front.gateway(READY).socket()
    starting = front.gateway()
    assert starting.hears_nothing()
    starting.say(READY)
    starting.socket()


def test_one_that_leaves_is_let_go_of_when_another_is_ready_and_not_before(front: Running) -> None:
    leaving = front.gateway(READY)
    leaving.socket()
    front.gateway()  # a follower that cannot serve yet
    leaving.say(LEAVING)
    assert leaving.hears_nothing()
    front.gateway(READY).socket()
    leaving.is_let_go()


def test_who_connects_while_no_gateway_is_there_waits_for_one_and_is_refused_after_a_while(
    front: Running,
) -> None:
    front.gateway(READY).close()
    gateway = front.gateway(READY)
    gateway.socket()
    gateway.close()
    early = front.client()
    began = time.monotonic()
    assert early.recv(1) == b""
    assert time.monotonic() - began > 0.8
    assert front.client().recv(1) == b"", "at once now"
    listener = front.gateway(READY).socket()
    late = front.client()
    accepted, address = listener.accept()
    accepted.close()
    assert address == late.getsockname()


def test_front_comes_back_to_its_port_and_its_path(front: Running) -> None:
    """The socket's file is still there, and the port has connections of before."""
    gateway = front.gateway(READY)
    listener = gateway.socket()
    front.client()
    accepted, _ = listener.accept()
    accepted.close()
    front.process.kill()
    front.process.wait()
    gateway.is_let_go()
    gateway.close()
    front.start()
    again = front.gateway(READY).socket()
    front.client()
    again.accept()[0].close()


def test_front_stops_when_it_is_told_to(front: Running) -> None:
    front.gateway(READY).socket()
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(SECONDS) == 0
