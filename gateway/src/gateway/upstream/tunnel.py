"""The tunnel of a WebSocket: bytes both ways after a 101, until one side or the gateway ends it."""

from typing import TYPE_CHECKING, Final

from gateway.forwarding import Answer

if TYPE_CHECKING:
    from gateway.upstream.connections import Connection
    from gateway.upstream.streaming import Client, Exchange

CLOSE_POLICY: Final = 1008
CLOSE_GOING_AWAY: Final = 1001


class Frames:
    """Follows the frame boundaries (RFC 6455, 5.2) of a stream, so that a frame of ours is never put inside another."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def at_boundary(self) -> bool:
        return not self._head and not self._left

    def feed(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            self._head += data[at : at + 1]
            at += 1
            self._left = self._payload_length()
            if self._left >= 0:
                self._head = b""
            else:
                self._left = 0

    def _payload_length(self) -> int:
        """Bytes that follow the frame's head, or -1 while the head is not complete."""
        head = self._head
        if len(head) < 2:
            return -1
        length = head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        if len(head) < 2 + extended:
            return -1
        if extended:
            length = int.from_bytes(head[2 : 2 + extended])
        return length + (4 if head[1] & 0x80 else 0)


def close_frame(code: int, reason: str) -> bytes:
    payload = code.to_bytes(2) + reason.encode()[:123]
    return bytes((0x88, len(payload))) + payload


class Tunnel:
    """Bytes both ways after a 101, each side held while the other does not read."""

    def __init__(
        self, client: "Client", connection: "Connection", exchange: "Exchange", answer: Answer
    ) -> None:
        self._client = client
        self._connection = connection
        self._exchange = exchange
        self._answer = answer
        self._down = Frames()
        self._over = False
        self.passage = exchange.passage

    def begin(self, after: bytes) -> None:
        """Tells the client of the switch; `after` came behind the upstream's 101."""
        self._connection.tunnel = self
        lines = [
            self._answer.status_line,
            *self._answer.fields,
            b"Connection: Upgrade\r\nUpgrade: websocket",
            b"X-Request-Id: %b\r\n\r\n" % self.passage.request_id,
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
                self._client.hold()

    def client_ended(self) -> None:
        """The client said its last: what it said is still delivered."""
        if not self._over and self._connection.transport.can_write_eof():
            self._connection.transport.write_eof()

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
        if not self._over:
            self._exchange.sent += len(data)
            self._down.feed(data)
            self._client.write(data)

    def upstream_full(self) -> None:
        self._client.hold()

    def upstream_ready(self) -> None:
        self._client.go_on()

    def upstream_ended(self) -> None:
        if not self._over:
            self._client.end()

    def upstream_lost(self) -> None:
        if not self._over:
            self._over = True
            self._client.finished(self._exchange, False)

    # From the gateway.

    def close(self, code: int, reason: str) -> None:
        """Ends the tunnel, telling the client why where that does not break a frame."""
        if self._over:
            return
        self._over = True
        if self._down.at_boundary:
            self._client.write(close_frame(code, reason))
        self._connection.transport.abort()
        self._client.finished(self._exchange, False)
