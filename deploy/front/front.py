"""Own the published port, and pass its socket to the gateways, so that one follows another unnoticed.

A gateway connects, says READY once it can serve, and LEAVING when it is about to stop. It is passed the socket when it
is ready; while nobody has it, before that, too. One that leaves goes on accepting until another is ready, and then
hears the end of its connection.
"""

# Nothing that takes long to import: when this process dies, nobody reaches the system until it is back.
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial

STARTING, READY, LEAVING = b"", b"+", b"-"


class Front:
    """The gateways that are connected, and who of them has the socket.

    Whoever connects while nobody has it waits `patience` seconds for a gateway; after that they are refused.
    """

    def __init__(self, host: str, port: int, path: str, patience: float) -> None:
        self._wait = patience
        # Bound, not listening: the first gateway sets the options that its connections inherit, and then listens.
        self._public = socket.socket()
        self._public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._public.bind((host, port))
        self._public.setblocking(False)
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - pathlib takes longer to import than all the rest
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.bind(path)
        self._asked.listen()
        self._states: dict[socket.socket, bytes] = {}
        self._holders: set[socket.socket] = set()
        self._listening = False  # a gateway has had the socket
        self._alone_since: float | None = None
        self._refusing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._asked, selectors.EVENT_READ, self._meet)

    def run(self) -> None:
        while True:
            self._settle()
            for key, _ in self._selector.select(self._patience()):
                key.data()

    def _meet(self) -> None:
        gateway, _ = self._asked.accept()
        self._states[gateway] = STARTING
        self._selector.register(gateway, selectors.EVENT_READ, partial(self._hear, gateway))

    def _hear(self, gateway: socket.socket) -> None:
        said = b""
        with suppress(ConnectionError):
            said = gateway.recv(16)
        if said:
            self._states[gateway] = said[-1:]
        else:
            self._selector.unregister(gateway)
            gateway.close()
            del self._states[gateway]
            self._holders.discard(gateway)

    def _settle(self) -> None:
        """Pass the socket to whoever should have it now, and let go of whoever need not."""
        ready = {gateway for gateway, state in self._states.items() if state == READY}
        if ready:
            self._pass_to(ready)
            for gateway in [holder for holder in self._holders if self._states[holder] == LEAVING]:
                self._holders.discard(gateway)
                with suppress(OSError):
                    gateway.shutdown(socket.SHUT_WR)
        elif not self._holders:
            self._pass_to({gateway for gateway, state in self._states.items() if state == STARTING})

    def _pass_to(self, gateways: set[socket.socket]) -> None:
        for gateway in gateways - self._holders:
            with suppress(OSError):  # it is gone, which is about to be heard
                socket.send_fds(gateway, [b"."], [self._public.fileno()])
                self._holders.add(gateway)
                self._listening = True

    def _patience(self) -> float | None:
        """Seconds until whoever waits for a gateway is refused; begins to refuse, and ends it."""
        if self._holders or not self._listening:
            self._alone_since = None
            self._refuse_all(False)
            return None
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        left = self._alone_since + self._wait - now
        self._refuse_all(left <= 0)
        return left if left > 0 else None

    def _refuse_all(self, on: bool) -> None:
        if on and not self._refusing:
            self._selector.register(self._public, selectors.EVENT_READ, self._refuse)
        elif self._refusing and not on:
            self._selector.unregister(self._public)
        self._refusing = on

    def _refuse(self) -> None:
        with suppress(OSError):
            client, _ = self._public.accept()
            client.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Front(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])).run()
