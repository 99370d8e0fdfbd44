"""The open WebSockets and event streams: closed when their session or person is revoked, or when they are too old.

They live as long as their session, not their token: neither a refresh nor the token's end closes them.
"""

import time
from collections import defaultdict
from typing import Final, Protocol

from service_kit.revocations import Revocation, Revocations
from service_kit.tokens import Caller, CannotVerify, TokenRefused

TOO_OLD: Final = "maximum_age"


class Socket(Protocol):
    """A client's connection that carries one."""

    def close_socket(self, code: str) -> None: ...


class Sockets:
    """Found by session, person and key: a revocation concerns few of many."""

    def __init__(self, revocations: Revocations, max_seconds: float) -> None:
        self._revocations = revocations
        self._max_seconds = max_seconds
        self._open: dict[Socket, tuple[Caller | None, float]] = {}  # the oldest first; with its last moment
        self._concerned: defaultdict[tuple[str, str], set[Socket]] = defaultdict(set)
        revocations.on_change(self._revoked)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: Socket, caller: Caller | None, now: float) -> None:
        """Watches over a socket from now on; one that was revoked since its token was read is closed at once."""
        self._open[socket] = caller, now + self._max_seconds
        if caller is not None:
            for concern in _concerns(caller):
                self._concerned[concern].add(socket)
            self._close_if_revoked(socket, caller)

    def remove(self, socket: Socket) -> None:
        caller, _ = self._open.pop(socket, (None, 0.0))
        if caller is not None:
            for concern in _concerns(caller):
                self._concerned[concern].discard(socket)
                if not self._concerned[concern]:
                    del self._concerned[concern]

    def sweep(self, now: float) -> None:
        """Closes what has reached its maximum age."""
        for socket, (_, last) in tuple(self._open.items()):
            if last > now:
                return
            self.remove(socket)
            socket.close_socket(TOO_OLD)

    def _revoked(self, revocation: Revocation) -> None:
        for socket in tuple(self._concerned.get((revocation.kind, revocation.value), ())):
            # Closing one can have told of more that has ended, and so have closed others of these.
            caller, _ = self._open.get(socket, (None, 0.0))
            if caller is not None:
                self._close_if_revoked(socket, caller)

    def _close_if_revoked(self, socket: Socket, caller: Caller) -> None:
        try:
            self._revocations.check(caller, time.time())
        except CannotVerify:
            pass  # nothing is known against it
        except TokenRefused as refused:
            self.remove(socket)
            socket.close_socket(refused.code)


def _concerns(caller: Caller) -> tuple[tuple[str, str], ...]:
    return ("session", caller.session_id), ("subject", caller.subject), ("key", caller.key_id)
