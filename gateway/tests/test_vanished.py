"""Peers that are gone without a word: no FIN, no reset, as behind a wire that was pulled."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.config import Settings
from tests.conftest import running
from tests.process import connected
from tests.test_exchange import Scripted
from tests.test_sockets import EVENTS, SWITCH, opening

SECONDS = 6.0
FOUND_WITHIN = SECONDS + 4  # the kernel's timers are in whole seconds; a busy machine
# Of each process its own: tests run side by side.
HERE, THERE = f"10.213.{os.getpid() % 256}.1", f"10.213.{os.getpid() % 256}.2"
NAME, OUR_END = f"gatehouse-{os.getpid()}", f"gh{os.getpid()}"
# What runs beyond the wire; each says "open" when the two have met.
CLIENT = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
peer.sendall(sys.stdin.buffer.read())
while b"\\r\\n\\r\\n" not in peer.recv(65536):
    pass
print("open", flush=True)
time.sleep(3600)
"""
SERVICE = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("open", flush=True)
peer, _ = listener.accept()
peer.recv(65536)
peer.sendall(sys.stdin.buffer.read())
time.sleep(3600)
"""


def test_a_vanished_peer_is_found_within_a_minute_unless_a_setting_says_otherwise() -> None:
    assert Settings.model_fields["vanished_seconds"].default == 60


class Wire:
    """A network of one's own, and the wire to it."""

    def __init__(self) -> None:
        self._programs: list[subprocess.Popen[bytes]] = []

    def lay(self) -> None:
        ip("netns", "add", NAME)
        ip("link", "add", OUR_END, "type", "veth", "peer", "name", "gh-there", "netns", NAME)
        ip("addr", "add", f"{HERE}/30", "dev", OUR_END)
        ip("link", "set", OUR_END, "up")
        ip("-n", NAME, "addr", "add", f"{THERE}/30", "dev", "gh-there")
        ip("-n", NAME, "link", "set", "gh-there", "up")

    async def run(self, program: str, host: str, port: int, says: bytes) -> None:
        command = ["ip", "netns", "exec", NAME, sys.executable, "-c", program, host, str(port)]
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
        self._programs.append(started)
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(says)
        started.stdin.close()
        assert await asyncio.to_thread(started.stdout.readline) == b"open\n"

    def pull(self) -> None:
        ip("-n", NAME, "link", "set", "gh-there", "down")

    def take_away(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()
            if program.stdout is not None:
                program.stdout.close()
        for left in (["link", "del", OUR_END], ["netns", "del", NAME]):
            subprocess.run(["ip", *left], check=False, capture_output=True)


def ip(*said: str) -> None:
    subprocess.run(["ip", *said], check=True, capture_output=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    one = Wire()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network of one's own needs root and iproute2")
    try:
        one.lay()
    except subprocess.CalledProcessError as error:
        one.take_away()
        pytest.skip(f"a network of one's own cannot be made: {error.stderr.decode()}")
    try:
        yield one
    finally:
        one.take_away()


@pytest.mark.parametrize("path", ["/socket", "/private"])
@pytest.mark.parametrize("talks", [False, True])
async def test_a_client_that_vanished_is_found_whether_anything_is_sent_to_it_or_not(
    tmp_path: Path, wire: Wire, path: str, talks: bool
) -> None:
    async def streams(upstream: Scripted, reader: StreamReader, writer: StreamWriter) -> None:
        await upstream.head(reader)
        writer.write(SWITCH if path == "/socket" else EVENTS)
        ended = asyncio.create_task(reader.read())
        while not (await asyncio.wait({ended}, timeout=0.1))[0]:
            if talks:
                writer.write(b"\x81\x01a" if path == "/socket" else b"8\r\ndata: 1\n\r\n")

    upstream = Scripted(streams)
    async with running(
        tmp_path, upstream=upstream, host=HERE, vanished_seconds=SECONDS, idle_seconds=600
    ) as gateway:
        await wire.run(CLIENT, HERE, gateway.port, opening(path, gateway.issuer.token()))
        started = time.monotonic()
        wire.pull()
        await asyncio.wait_for(upstream.ended.wait(), FOUND_WITHIN)
        assert time.monotonic() - started >= SECONDS / 2, "it was not found, but lost"


@pytest.mark.parametrize("path", ["/socket", "/private"])
async def test_a_service_that_vanished_is_found_and_its_client_told(
    tmp_path: Path, wire: Wire, path: str
) -> None:
    await wire.run(SERVICE, THERE, 8000, SWITCH if path == "/socket" else EVENTS)
    upstreams = {"echo": f"{THERE}:8000"}
    async with (
        running(tmp_path, upstreams=upstreams, vanished_seconds=SECONDS, idle_seconds=600) as gateway,
        connected(gateway.port) as (reader, writer),
    ):
        writer.write(opening(path, gateway.issuer.token()))
        await reader.readuntil(b"\r\n\r\n")
        wire.pull()
        # A stream that broke off ends in a reset, a WebSocket in a FIN.
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), FOUND_WITHIN) in (b"", b"8\r\ndata: 1\n\r\n")
