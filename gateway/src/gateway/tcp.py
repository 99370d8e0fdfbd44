"""How our TCP connections are set, so that a peer that vanished without a word is found and none fills the kernel."""

import resource
import socket
from math import inf
from typing import Any, Final

# Of what the peer has room for nothing is held back; of the rest the kernel takes no more than this.
UNSENT_BYTES: Final = 128 * 1024
# What a service says and nobody takes from the kernel yet, because the client does not read. Linux doubles it for what
# it needs itself; left alone, it lets a connection that was fast once hold many megabytes.
UNREAD_BYTES: Final = 128 * 1024
# The same of a client that goes on sending while we do not read. More than of a service, as it may be far away.
UNTAKEN_BYTES: Final = 256 * 1024


def most_connections() -> float:
    """How many clients' connections there may be so that each has a file, and one to a service."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return inf if most == resource.RLIM_INFINITY else most // 2


def tune_listener(listener: Any, vanished_seconds: float) -> None:
    """Sets a listener, whose connections inherit it."""
    tune(listener, vanished_seconds)
    _set(listener, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT_BYTES)
    _set(listener, socket.SOL_SOCKET, "SO_RCVBUF", UNTAKEN_BYTES)


def tune_upstream(connection: Any, vanished_seconds: float) -> None:
    """Sets a connection to a service."""
    tune(connection, vanished_seconds)
    _set(connection, socket.SOL_SOCKET, "SO_RCVBUF", UNREAD_BYTES)


def tune(connection: Any, vanished_seconds: float) -> None:
    """Sets a connection so that the kernel ends it when its peer has vanished."""
    probes = max(1, round(vanished_seconds / 6))  # three, after half of the time without a word
    options = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", max(1, round(vanished_seconds / 2))),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", probes),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        # The same for a peer that owes us the receipt of what was sent, or room for what is to be sent.
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(vanished_seconds * 1000)),
    )
    for level, name, value in options:
        _set(connection, level, name, value)


def _set(connection: Any, level: int, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:  # this system has it
        connection.setsockopt(level, option, value)
