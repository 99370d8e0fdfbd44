"""Ports nobody listens on."""

import random
import socket

# Below those that the kernel gives to connections and to whoever asks for any port: they would be taken meanwhile.
_FIRST, _BEHIND_LAST = 20_000, 32_768


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago, and another for each who asks."""
    while True:
        port = random.randrange(_FIRST, _BEHIND_LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
