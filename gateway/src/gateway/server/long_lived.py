"""The open WebSockets and event streams: closed when their session or person is revoked, or when they are too old.

They live as long as their session, not their token: neither a refresh nor the token's end closes them.
"""

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from service_kit.revocations import Revocation, Revocations
from service_kit.tokens import Caller, CannotVerify, TokenRefused

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

TOO_OLD: Final = "maximum_age"


class LongLivedConnections:
    """Found by session, person and key: a revocation concerns few of many."""

    def __init__(self, revocations: Revocations, max_seconds: float) -> None:
        self._revocations = revocations
        self._max_seconds = max_seconds
        self._open: dict[
            ClientConnection, tuple[Caller | None, float]
        ] = {}  # the oldest first; with its last moment
        self._concerned: defaultdict[tuple[str, str], set[ClientConnection]] = defaultdict(set)
        revocations.on_change(self._revoked)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: "ClientConnection", caller: Caller | None, now: float) -> None:
        """Watches over a connection from now on; one that was revoked since its token was read is closed at once."""
        self._open[connection] = caller, now + self._max_seconds
        if caller is not None:
            for concern in _concerns(caller):
                self._concerned[concern].add(connection)
            self._close_if_revoked(connection, caller)

    def remove(self, connection: "ClientConnection") -> None:
        caller, _ = self._open.pop(connection, (None, 0.0))
        if caller is not None:
            for concern in _concerns(caller):
                self._concerned[concern].discard(connection)
                if not self._concerned[concern]:
                    del self._concerned[concern]

    def sweep(self, now: float) -> None:
        """Closes what has reached its maximum age."""
        for connection, (_, last) in tuple(self._open.items()):
            if last > now:
                return
            self.remove(connection)
            connection.close_long_lived(TOO_OLD)

    def _revoked(self, revocation: Revocation) -> None:
        for connection in tuple(self._concerned.get((revocation.kind, revocation.value), ())):
            # Closing one can have told of more that has ended, and so have closed others of these.
            caller, _ = self._open.get(connection, (None, 0.0))
            if caller is not None:
                self._close_if_revoked(connection, caller)

    def _close_if_revoked(self, connection: "ClientConnection", caller: Caller) -> None:
        try:
            self._revocations.check(caller, time.time())
        except CannotVerify:
            pass  # nothing is known against it
        except TokenRefused as refused:
            self.remove(connection)
            connection.close_long_lived(refused.code)


def _concerns(caller: Caller) -> tuple[tuple[str, str], ...]:
    return ("session", caller.session_id), ("subject", caller.subject), ("key", caller.key_id)
