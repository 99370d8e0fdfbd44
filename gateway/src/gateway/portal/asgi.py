"""Carries one request of the gateway's own pages into an ASGI application and its answer back."""

import asyncio
import logging
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message

from gateway.clock import date
from gateway.policy.proxy_request import ProxyRequest

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

_log = logging.getLogger("gateway.portal")
_OURS = (b"content-length", b"x-request-id")
_PIECE: Final = 16 * 1024


class Cycle:
    """One request without a body; the answer's length is counted, so that the connection can be kept."""

    def __init__(self, client: "ClientConnection", request: ProxyRequest, started: float) -> None:
        self._client = client
        self.request = request
        self.started = started
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._rest: bytes | None = None  # of the answer, while it is being written
        self._written = 0  # bytes of it
        self._keep = False
        self._received = False
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, app: ASGIApp) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(app))

    def disconnect(self) -> None:
        self._gone.set()

    async def _run(self, app: ASGIApp) -> None:
        head = self.request.head
        path, _, query = head.target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",  # HEAD too: its answer is the same without the body
            "scheme": self.request.scheme.decode(),
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [*self._ids(), (b"host", head.host), *(_pair(line) for line in head.headers)],
            "client": (self.request.client.decode(), 0),
            "server": None,
        }
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # noqa: BLE001 - a page may fail, its connection must be answered
            _log.exception("a page of the gateway failed")
            self._status, self._headers, self._body = 500, [], []
        if not self._gone.is_set():
            self._response()

    def _ids(self) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self.request.request_id), (b"traceparent", self.request.trace)]

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
        else:
            self._body.append(message.get("body", b""))

    def _response(self) -> None:
        head, request = self.request.head, self.request
        body = b"".join(self._body)
        keep = head.keep_alive and not head.has_body and not self._client.draining
        lines = [b"HTTP/1.1 %d %b" % (self._status, HTTPStatus(self._status).phrase.encode())]
        lines += [name + b": " + value for name, value in self._headers if name not in _OURS]
        if self._status != HTTPStatus.NOT_MODIFIED:
            lines.append(b"Content-Length: %d" % len(body))
        if not keep:
            lines.append(b"Connection: close")
        if request.response_headers:
            lines.append(request.response_headers)
        lines.append(date(int(time())))
        lines.append(b"X-Request-Id: %b\r\n%b\r\n\r\n" % (request.request_id, self._client.own_headers))
        self._keep = keep
        self._body = []
        self._rest = b"" if head.method == b"HEAD" else body
        self._client.buffer_no_writes(True)
        self._client.write(b"\r\n".join(lines))
        self.client_ready()

    def client_ready(self) -> None:
        """Writes the next pieces, each when the one before has left: what waits for a slow client is one of them.

        The body itself is one for all who ask for the same."""
        if self._rest is None:
            return
        body, client = self._rest, self._client
        client.wait(self.request.route.idle_seconds)
        while self._written < len(body):
            if client.full:
                return
            piece = body[self._written : self._written + _PIECE]
            self._written += len(piece)
            client.write(piece)
        self._rest = None
        client.buffer_no_writes(False)
        client.cycle_finished(self, self._status, self._written, self._keep)


def _pair(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")
