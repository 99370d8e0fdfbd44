"""Each toxic, seen from a client on one side and a server on the other."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from gatehouse_e2e.toxics import Edge, Toxic, ToxicControl, ToxicProxy

from .conftest import in_thread

EDGE = "client-to-echo"


class Bench:
    """An echo server, the proxy before it, and the proxy's control."""

    def __init__(self, control: ToxicControl, port: int) -> None:
        self.control = control
        self.port = port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def set(self, *toxics: Toxic) -> None:
        self.control.set(EDGE, *toxics)

    def open_links(self) -> int:
        return int(self.control.state(EDGE)["open"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    with in_thread() as loop:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(echo, "127.0.0.1", 0), loop).result()
        proxy = ToxicProxy([Edge(EDGE, "127.0.0.1", server.sockets[0].getsockname()[1])])
        running = proxy.running()
        asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result()
        yield Bench(ToxicControl("127.0.0.1", proxy.control_port), proxy.edges[EDGE].listen)
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(server.close)


def exchange(link: socket.socket, data: bytes = b"hello") -> bytes:
    link.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = link.recv(65_536)
        if not piece:
            break
        got += piece
    return got


def seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_without_toxics_bytes_pass_as_they_are(bench: Bench) -> None:
    data = bytes(range(256)) * 4000
    with bench.connect() as link:
        assert exchange(link, data) == data


def test_a_half_close_travels_through(bench: Bench) -> None:
    with bench.connect() as link:
        link.sendall(b"last words")
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100) == b"last words"
        assert link.recv(100) == b""


def test_latency_delays_each_direction_and_does_not_add_up_over_pieces(bench: Bench) -> None:
    bench.set(Toxic("latency", ms=100))
    with bench.connect() as link:
        assert 0.19 < seconds(lambda: exchange(link)) < 0.5

        def four_at_once() -> None:
            for _ in range(4):
                link.sendall(b"x")
                time.sleep(0.01)
            got = 0
            while got < 4:
                got += len(link.recv(100))

        assert seconds(four_at_once) < 0.5


def test_bandwidth_is_a_ceiling(bench: Bench) -> None:
    bench.set(Toxic("bandwidth", bytes_per_second=100_000, toward="down"))
    with bench.connect() as link:
        assert 0.4 < seconds(lambda: exchange(link, bytes(50_000))) < 1.5


def test_timeout_is_silence_until_it_is_lifted(bench: Bench) -> None:
    with bench.connect() as link:
        bench.set(Toxic("timeout"))
        link.sendall(b"hello")
        link.settimeout(0.2)
        with pytest.raises(TimeoutError):
            link.recv(5)
        bench.set()
        link.settimeout(5)
        assert link.recv(5) == b"hello"


def test_timeout_with_a_time_ends_the_connection(bench: Bench) -> None:
    bench.set(Toxic("timeout", ms=100))
    with bench.connect() as link:
        link.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            link.recv(5)


def test_down_resets_what_is_open_and_refuses_what_comes(bench: Bench) -> None:
    with bench.connect() as link:
        exchange(link)
        bench.set(Toxic("down"))
        with pytest.raises(ConnectionResetError):
            link.recv(5)
    with pytest.raises(ConnectionRefusedError):
        bench.connect()
    bench.set()
    with bench.connect() as link:
        assert exchange(link) == b"hello"


def test_reset_spares_nobody_and_comes_after_its_time(bench: Bench) -> None:
    with bench.connect() as link:
        exchange(link)
        bench.set(Toxic("reset", ms=50))
        with pytest.raises(ConnectionResetError):
            link.recv(5)
    with bench.connect() as link, pytest.raises(ConnectionResetError):
        link.recv(5)


@pytest.mark.skipif(sys.platform != "linux", reason="a full accept queue drops SYNs on Linux only")
def test_drop_leaves_a_new_connection_without_an_answer(bench: Bench) -> None:
    with bench.connect() as link:
        exchange(link)
        bench.set(Toxic("drop"))
        link.sendall(b"hello")
        link.settimeout(0.2)
        with pytest.raises(TimeoutError):
            link.recv(5)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", bench.port), timeout=0.3)
        bench.set()
        link.settimeout(5)
        assert link.recv(5) == b"hello"
    with bench.connect() as link:
        assert exchange(link) == b"hello"


def test_slice_cuts_a_message_into_pieces(bench: Bench) -> None:
    bench.set(Toxic("slice", size=2, ms=30, toward="down"))
    with bench.connect() as link:
        link.sendall(b"abcdef")
        assert link.recv(100) == b"ab"


def test_limit_ends_the_connection_after_so_many_bytes(bench: Bench) -> None:
    bench.set(Toxic("limit", size=3, toward="down"))
    with bench.connect() as link:
        link.sendall(b"abcdef")
        assert link.recv(100) in (b"abc", b"")


def test_slow_close_lets_the_bytes_pass_and_delays_the_end(bench: Bench) -> None:
    bench.set(Toxic("slow_close", ms=200, toward="down"))
    with bench.connect() as link:
        link.sendall(b"bye")
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100) == b"bye"
        assert seconds(lambda: link.recv(100)) > 0.15


def test_an_unknown_edge_or_toxic_is_said(bench: Bench) -> None:
    with pytest.raises(ValueError, match="no-such-edge"):
        bench.control.set("no-such-edge")
    with pytest.raises(ValueError, match="colour"):
        bench.control._ask({"edge": EDGE, "toxics": [{"kind": "latency", "colour": "red"}]})


def test_closed_connections_are_forgotten(bench: Bench) -> None:
    for _ in range(5):
        with bench.connect() as link:
            exchange(link)
    deadline = time.monotonic() + 5
    while bench.open_links() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bench.open_links() == 0


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "gatehouse_e2e.toxics", "there=0:127.0.0.1:9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert '"there": ' in process.stdout.readline()
        process.terminate()
