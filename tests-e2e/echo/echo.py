"""A service that tells what reached it, and misbehaves when asked to: the gateway's other side, for tests alone.

GET /seen?key=K         how often each method was asked with ?key=K so far
any /status/503?key=K   counts, reads the body, answers that status
any /cut?key=K          counts, closes without an answer
any /what               the request as it arrived: method, target, headers, size of the body
GET /bytes/N            N bytes
GET /events             a stream of events, ten a second, for a minute
GET /socket             a WebSocket: the request as it arrived, then each text again
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SEEN: Counter[tuple[str, str]] = Counter()
PIECE = b"x" * 65_536
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        body = self.read_body()
        target = urlsplit(self.path)
        key = parse_qs(target.query).get("key", [""])[0]
        _, _, verb, *rest = target.path.split("/")
        if verb == "seen":
            return self.say(200, {method: count for (method, name), count in SEEN.items() if name == key})
        SEEN[self.command, key] += 1
        if verb == "bytes":
            return self.pour(int(rest[0]))
        if verb == "events":
            return self.tell_events()
        if verb == "socket" and self.headers.get("upgrade", "").lower() == "websocket":
            return self.echo_texts()
        if verb == "cut":
            self.close_connection = True
            return None
        if verb == "status":
            return self.say(int(rest[0]), {"status": int(rest[0])})
        return self.say(200, self.as_it_arrived(body))

    def as_it_arrived(self, body: bytes) -> dict[str, object]:
        return {
            "method": self.command,
            "target": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": len(body),
        }

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", "0")))

    def say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def pour(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size > 0:
            self.wfile.write(PIECE[:size])
            size -= len(PIECE)

    def tell_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(600):
            event = b"data: %d\n\n" % number
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            except ConnectionError:  # nobody listens any more
                self.close_connection = True
                return
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def echo_texts(self) -> None:
        """Text frames of at most 64 KiB, until the other side closes or is gone."""
        self.close_connection = True
        proof = sha1(self.headers["sec-websocket-key"].encode() + GUID, usedforsecurity=False).digest()
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", b64encode(proof).decode())
        if offered := self.headers.get("sec-websocket-protocol"):
            self.send_header("Sec-WebSocket-Protocol", offered.partition(",")[0])
        self.end_headers()
        with suppress(ConnectionError):  # the other side may go without a word
            self.echo_frames()

    def echo_frames(self) -> None:
        self.write_frame(0x81, json.dumps(self.as_it_arrived(b"")).encode())
        while len(head := self.rfile.read(2)) == 2:
            size = head[1] & 127
            if size == 126:
                size = int.from_bytes(self.rfile.read(2))
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))
            self.write_frame(head[0], payload)
            if head[0] & 15 == 8:
                return

    def write_frame(self, first: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
        self.wfile.write(bytes([first]) + length + payload)

    def log_message(self, format: str, *arguments: object) -> None:
        """The gateway's log tells it already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Echo).serve_forever()
