"""The tunnel of a WebSocket: bytes both ways after a 101, until one side or the gateway ends it."""

from typing import TYPE_CHECKING, Final

from gateway.upstream.connection import Connection
from gateway.upstream.response import Response

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection
    from gateway.upstream.exchange import Exchange

CLOSE_POLICY: Final = 1008
CLOSE_GOING_AWAY: Final = 1001
_FRAME_SECONDS: Final = 0.5
_EXTENDED: Final = 126  # the first length that is written in more than its one byte
_UNKNOWN: Final = 256


class Frames:
    """Follows the frame boundaries (RFC 6455, 5.2) of a stream, so that a frame of ours is never put inside another."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def at_boundary(self) -> bool:
        return not self._head and not self._left

    def feed(self, data: bytes, to_boundary: bool = False) -> int:
        """Follows the bytes, or only those up to the end of the frame they begin in; how many those are."""
        begun, self._head = self._head, b""
        data = begun + data
        at, end = self._left, len(data)  # where the next frame begins, which may be behind the end
        # One step a frame: a service can send a hundred thousand in one read, as answers to pings perhaps.
        while at < end and not (to_boundary and (at or not begun)):
            short = data[at + 1] if at + 1 < end else _UNKNOWN
            following = at + 2 + short if short < _EXTENDED else _end_of_frame(data, at)
            if not following:
                self._head = data[at:]
                at = end
                break
            at = following
        self._left = max(0, at - end)
        return min(at, end) - len(begun)


def _end_of_frame(data: bytes, at: int) -> int:
    """Where the frame that begins here ends, whatever its length; 0 while its head is not complete."""
    head = data[at : at + 10]
    if len(head) < 2:
        return 0
    length = head[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    if len(head) < 2 + extended:
        return 0
    if extended:
        length = int.from_bytes(head[2 : 2 + extended])
    return at + 2 + extended + (4 if head[1] & 0x80 else 0) + length


def close_frame(code: int, reason: str) -> bytes:
    payload = code.to_bytes(2) + reason.encode()[:123]
    return bytes((0x88, len(payload))) + payload


class Tunnel:
    """Bytes both ways after a 101, each side held while the other does not read."""

    def __init__(
        self, client: "ClientConnection", connection: Connection, exchange: "Exchange", response: Response
    ) -> None:
        self._client = client
        self._connection = connection
        self.exchange = exchange
        self._response = response
        self._down = Frames()
        self._over = False
        self._heard_all = False  # the client's half is closed
        self._said_all = False  # the upstream's half is closed, and so is ours
        self._farewell = b""  # our close frame, while it waits for the end of a frame
        self.request = exchange.request

    def begin(self, after: bytes) -> None:
        """Tells the client of the switch; `after` came behind the upstream's 101."""
        self._connection.tunnel = self
        lines = [
            self._response.status_line,
            *self._response.headers,
            b"Connection: Upgrade\r\nUpgrade: websocket",
            b"X-Request-Id: %b\r\n\r\n" % self.request.request_id,
        ]
        self._client.write(b"\r\n".join(lines))
        if after:
            self.from_upstream(after)
        self._client.tunnelled(self)

    # From the client.

    def from_client(self, data: bytes) -> None:
        if not self._over:
            self._connection.transport.write(data)
            if self._connection.paused:
                self._client.pause_reading()

    def client_ended(self) -> None:
        """The client said its last, or is gone: what it said is still delivered, and what the upstream says to it."""
        if self._over:
            return
        self._heard_all = True
        if self._said_all:
            self._both_ended()
            return
        if self._connection.transport.can_write_eof():
            self._connection.transport.write_eof()
        self._client.wait(self.request.route.idle_seconds)

    def client_lost(self) -> None:
        self._over = True
        self._connection.transport.close()

    def client_full(self) -> None:
        if not self._over:
            self._connection.transport.pause_reading()

    def client_ready(self) -> None:
        if not self._over:
            self._connection.transport.resume_reading()

    # From the upstream's connection.

    def from_upstream(self, data: bytes) -> None:
        if self._over:
            return
        if self._farewell:
            data = data[: self._down.feed(data, to_boundary=True)]
        else:
            self._down.feed(data)
        self.exchange.sent += len(data)
        self._client.write(data)
        if self._farewell and self._down.at_boundary:
            self._part(self._farewell)

    @property
    def unread_bytes(self) -> int:
        """What the service has not read."""
        return self._connection.unread_bytes

    def upstream_full(self) -> None:
        self._client.service_full()

    def upstream_ready(self) -> None:
        self._client.resume_reading()

    def upstream_ended(self) -> None:
        if self._over:
            return
        self._said_all = True
        if self._heard_all:
            self._both_ended()
            return
        self._client.end()
        self._client.wait(self.request.route.idle_seconds)

    def upstream_lost(self) -> None:
        if not self._over:
            self._over = True
            self._client.finished(self.exchange, False)

    # From the gateway.

    def close(self, code: int, reason: str) -> None:
        """Ends the tunnel and tells the client why: behind the frame that is on its way, which has a moment."""
        if self._over:
            return
        if self._said_all:
            self._part(b"")
        elif self._down.at_boundary:
            self._part(close_frame(code, reason))
        elif self._farewell:
            self._part(b"")  # the frame's rest did not come
        else:
            self._farewell = close_frame(code, reason)
            self._client.wait(_FRAME_SECONDS)

    def _both_ended(self) -> None:
        self._over = True
        self._connection.transport.close()
        self._client.finished(self.exchange, False)

    def _part(self, last: bytes) -> None:
        self._over = True
        if last:
            self._client.write(last)
        self._connection.transport.abort()
        self._client.finished(self.exchange, False)
