"""A service that tells what reached it, and misbehaves when asked to: the gateway's other side, for tests alone.

GET /seen?key=K         how often each method was asked with ?key=K so far
any /status/503?key=K   counts, reads the body, answers that status
any /cut?key=K          counts, closes without an answer
any /what               the request as it arrived: method, target, headers, size of the body
GET /bytes/N            N bytes
"""

from __future__ import annotations

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SEEN: Counter[tuple[str, str]] = Counter()
PIECE = b"x" * 65_536


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
        if verb == "cut":
            self.close_connection = True
            return None
        if verb == "status":
            return self.say(int(rest[0]), {"status": int(rest[0])})
        return self.say(
            200,
            {
                "method": self.command,
                "target": self.path,
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "body": len(body),
            },
        )

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

    def log_message(self, format: str, *arguments: object) -> None:
        """The gateway's log tells it already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Echo).serve_forever()
