"""A WebSocket client (RFC 6455) of text frames: what was answered, what came, and with which code it was closed."""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1
from types import TracebackType
from typing import Self

from .wire import Answer, RawClient, request_bytes

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Closed:
    """The other side's close frame; code 0 when the connection ended without one."""

    code: int
    reason: str


class WebSocket:
    """Asks to switch; `answer` tells whether that was granted. `with WebSocket(url, "/path") as socket:`"""

    def __init__(
        self, url: str, path: str, *headers: tuple[str, str], subprotocols: tuple[str, ...] = ()
    ) -> None:
        self._wire = RawClient(url)
        key = b64encode(secrets.token_bytes(16)).decode()
        asked = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        asked += [("Sec-WebSocket-Key", key), *headers]
        if subprotocols:
            asked.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        self.answer: Answer = self._wire.ask(request_bytes("GET", path, self._wire.target.authority, asked))
        if self.answer.status == 101:
            proof = b64encode(sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()
            assert self.answer.header("sec-websocket-accept") == proof, "no answer to this handshake"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        self._send(TEXT, text.encode())

    def next(self, within: float = 5) -> str | Closed:
        """The next text, or how it was closed; TimeoutError when nothing came."""
        while True:
            try:
                kind, payload = self._frame(within)
            except (EOFError, ConnectionResetError):
                return Closed(0, "")
            if kind == CLOSE:
                return Closed(int.from_bytes(payload[:2]), payload[2:].decode())
            if kind == PING:
                self._send(PONG, payload)
            elif kind == TEXT:
                return payload.decode()

    def _send(self, kind: int, payload: bytes) -> None:
        """One frame of at most 64 KiB, masked as a client's must be."""
        mask = secrets.token_bytes(4)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._wire.send(bytes([0x80 | kind]) + length + mask + masked)

    def _frame(self, within: float) -> tuple[int, bytes]:
        first, size = self._wire.read(2, within)
        if size >= 126:
            size = int.from_bytes(self._wire.read(2 if size == 126 else 8, within))
        return first & 15, self._wire.read(size, within)
