"""Machines with a network between them that can be cut: Linux's network namespaces."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """A machine; the test reaches it at its address, whatever is cut."""

    name: str
    address: str

    @property
    def inside(self) -> list[str]:
        """What comes before a command that is to run on it."""
        return ["ip", "netns", "exec", self.name]


class Network:
    """Two machines with a cable between them."""

    def __init__(self) -> None:
        self._id = f"kit{secrets.token_hex(3)}"
        # 198.18.0.0/15 is for tests (RFC 2544).
        block = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self.hosts = [Host(f"{self._id}{side}", f"{block}.{number}") for side, number in (("a", 2), ("b", 6))]

    def lay(self) -> None:
        """Each has a cable to the test as well."""
        for number, host in enumerate(self.hosts):
            _ip("netns", "add", host.name)
            block, last = host.address.rsplit(".", 1)
            here, there = f"{self._id}{number}", "test"
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", host.name)
            _ip("address", "add", f"{block}.{int(last) - 1}/30", "dev", here)
            _ip("link", "set", here, "up")
            _ip("address", "add", f"{host.address}/30", "dev", there, inside=host)
            _ip("link", "set", there, "up", inside=host)
            _ip("link", "set", "lo", "up", inside=host)
        a, b = self.hosts
        _ip("link", "add", "peer", "netns", a.name, "type", "veth", "peer", "name", "peer", "netns", b.name)
        for host, other in ((a, b), (b, a)):
            _ip("link", "set", "peer", "up", inside=host)
            _ip("route", "add", f"{other.address}/32", "dev", "peer", "src", host.address, inside=host)

    def cut(self) -> None:
        """Between the two machines nothing arrives from now on, and nobody is told."""
        _ip("link", "set", "peer", "down", inside=self.hosts[0])

    def remove(self) -> None:
        for host in self.hosts:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", host.name)  # its cables go with it


@contextmanager
def network() -> Iterator[Network]:
    """Two machines, removed at the end. The test is skipped where nobody may make them."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and iproute2")
    made = Network()
    try:
        try:
            made.lay()
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"no network namespaces here: {refused.stderr.strip()}")
        yield made
    finally:
        made.remove()


def _ip(*arguments: str, inside: Host | None = None) -> None:
    before = [] if inside is None else inside.inside
    subprocess.run([*before, "ip", *arguments], check=True, capture_output=True, text=True, timeout=10)
