"""Upstream for large bodies: sends as many bytes as the path says, and reads away what it is sent."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = bytes(256 * 1024)


class Bulk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        left = int(self.path.rsplit("/", 1)[1])
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left:
            left -= self.wfile.write(BLOCK[:left])

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        buffer = memoryview(bytearray(BLOCK))
        while left:
            left -= self.rfile.readinto1(buffer[: min(left, len(buffer))])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing: an upstream's log is not what is measured."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Bulk).serve_forever()
