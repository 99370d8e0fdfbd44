"""One exchange: a request on its way to an upstream and the answer on its way back, both streamed."""

import asyncio
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, cast

from gateway.clock import date
from gateway.policy.forwarding import prepare
from gateway.policy.proxy_request import ProxyRequest
from gateway.rate_limit.per_address import network_of
from gateway.upstream.connection import Connection
from gateway.upstream.exceptions import BadGateway, GatewayTimeout, RequestTimeout
from gateway.upstream.pool import Pool
from gateway.upstream.request_body import Body
from gateway.upstream.response import Response
from gateway.upstream.retries import IDEMPOTENT
from gateway.upstream.tunnel import Tunnel
from gateway.upstream.upstream import Upstream
from service_kit.problems import Problem

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

# A response that lasts longer is one of the long-lived: it counts as such, and ends with its session.
LONG_SECONDS: Final = 10.0
_UNCOUNTED: Final = -1.0  # instead of the time since when a client waits that may be gone


class Exchange:
    """Made for a request that may pass; lives until the answer is complete or one side is gone."""

    __slots__ = (
        "_began",
        "_body",
        "_chunked_down",
        "_client",
        "_counted",
        "_long_lived",
        "_replay",
        "_request",
        "_requested_at",
        "_response_head",
        "_uploader",
        "attempts",
        "body_done",
        "bodyless",
        "connection",
        "event_stream",
        "keep",
        "over",
        "pool",
        "request",
        "resolving",
        "responded",
        "reused",
        "sent",
        "started",
        "status",
        "upstream",
    )

    def __init__(
        self, client: "ClientConnection", request: ProxyRequest, upstream: Upstream, started: float
    ) -> None:
        head = request.head
        self._client = client
        self.request = request
        self.upstream = upstream
        self.started = started
        self._request = prepare(request, upstream.authority)
        self._body = Body(head, upstream.bodies) if head.has_body else None
        self._uploader = b""  # the client's network while it has an address and the body is still coming
        self._replay = head.method in IDEMPOTENT and not head.chunked
        self._response_head = b""
        self._requested_at = 0.0  # when the whole request had been sent; 0 again when it is answered
        self._chunked_down = False
        self._began = 0.0  # when the first piece of several was delivered
        self._counted = False
        self.event_stream = False
        self._long_lived = False
        self.body_done = not head.has_body
        self.bodyless = False
        self.connection: Connection | None = None
        self.pool: Pool | None = None
        self.resolving: asyncio.Task[None] | None = None
        self.attempts = 0
        self.reused = False
        self.responded = False
        self.keep = head.keep_alive
        self.over = False
        self.status = 0
        self.sent = 0

    # From the client.

    def start(self) -> None:
        """Asks for a connection, but for the rest of a small body first: nobody else has to wait while it drips."""
        body = self._body
        if body is not None and body.collecting:
            self._client.wait(self.upstream.bodies.seconds)
        else:
            self._send()

    def _send(self) -> None:
        if not self.body_done:
            self._client.pause_reading()
        self._client.wait(self.request.route.first_byte_seconds)
        self.upstream.send(self)

    def body(self, chunk: bytes, last: bool) -> None:
        """A piece of the request's body."""
        body, connection = cast("Body", self._body), self.connection
        if connection is None:
            if not body.keep(chunk, last):
                self._send()
            return
        self._replay = False
        connection.transport.write(body.framed(chunk))
        if connection.paused:
            self._client.pause_reading()
        if body.passed(len(chunk), self.request.route.idle_seconds):
            self._client.wait(self.request.route.idle_seconds)

    def body_ended(self) -> None:
        self.body_done = True
        if self._uploader:
            self._uploaded()
        body = cast("Body", self._body)
        if body.collecting:
            body.collecting = False
            self._send()
        elif self.connection is not None:
            if self.request.head.chunked:
                self.connection.transport.write(b"0\r\n\r\n")
            if not self.responded:
                self._client.wait(self.request.route.first_byte_seconds)
                self._ask()

    def client_full(self) -> None:
        """The client does not read: neither do we."""
        if self.connection is not None and not self.connection.lost:
            self.connection.transport.pause_reading()

    def client_ready(self) -> None:
        if self.connection is not None and not self.connection.lost:
            self.connection.transport.resume_reading()

    def client_ended(self) -> None:
        """The client said its last and may be gone: it is no longer one of the crowd that waits, nor how long it waits a
        measure. A proxy in front may make this of a reset."""
        if self._requested_at > 0:
            self.upstream.concurrency.left()
        self._requested_at = _UNCOUNTED

    def abandon(self) -> None:
        """The client is gone, or was told to go: the upstream's connection goes too."""
        if self.over:
            return
        if self._requested_at and self._stay_counted():
            return
        self._end()
        if self.connection is not None:
            self.connection.close()
        elif self.pool is not None:
            self.pool.forget(self)

    def _stay_counted(self) -> bool:
        """Whether the exchange counts until the service has noticed that its client is gone.

        A service that is behind still has the request, and will work on it. Were it counted no more, clients who ask and
        leave could pile up any number of requests there, and whoever stays would wait behind them.
        """
        connection = self.connection
        if connection is None or not self.body_done or not connection.may_be_abandoned:
            return False
        if not self.upstream.concurrency.keep(counted=self._requested_at > 0):
            return False
        self.over = True
        if self._body is not None:
            self._body.forget()
        self._requested_at = perf_counter()
        connection.abandon(self.request.route.first_byte_seconds)
        return True

    def noticed(self) -> None:
        """The service has noticed that the client left, or had time to."""
        route, took = self.request.route, perf_counter() - self._requested_at
        self.upstream.concurrency.noticed(route.name, took, route.first_byte_seconds)
        self.leave()

    def end_stream(self) -> None:
        """The response ends here. Events do as if the service had ended them: a client that asks again is told why. Of
        any other the client must not take what has come for the whole."""
        if self.over:
            return
        self._drop()
        if not self.event_stream:
            self._client.cut(self)
            return
        end = b"0\r\n\r\n" if self._chunked_down else b""
        self._client.write(end if self.responded else self._response_head + end)
        # Closed only where nothing else tells the end: a client may be asking again at this very moment.
        self._client.finished(self, self.keep and self._chunked_down)

    def timed_out(self) -> None:
        """The deadline passed, whichever it was."""
        since = self._requested_at if self._requested_at > 0 else self.started
        self._record_response()
        waiting_for_client = self._waits_for_body()
        if not waiting_for_client and not self._client.full and self.pool is not None:
            self.upstream.timed_out(self.pool, since)
        self.abandon()
        if self.responded:
            self._client.cut(self)
        else:
            self._client.refuse(self.request, RequestTimeout() if waiting_for_client else GatewayTimeout())

    def _waits_for_body(self) -> bool:
        """A body that streams is not read while there is no connection, or while the service does not read."""
        if self._body is None or self.body_done:
            return False
        return self._body.collecting or (self.connection is not None and not self.connection.paused)

    # From the upstream's addresses.

    def enter(self, pool: Pool) -> bool:
        """Counts as outstanding at this address until it leaves; False if its client has too many uploads there."""
        if not self.body_done:
            network = network_of(self.request.client)
            if not pool.uploaders.take(network):
                return False
            self._uploader = network
            pool.uploads += 1
        self.pool = pool
        self._counted = True
        pool.outstanding += 1
        return True

    def leave(self) -> None:
        if self._counted and self.pool is not None:
            self._counted = False
            self.pool.outstanding -= 1
            if self._uploader:
                self._uploaded()

    def _uploaded(self) -> None:
        uploader, self._uploader = self._uploader, b""
        if self.pool is not None:
            self.pool.uploads -= 1
            self.pool.uploaders.leave(uploader)

    def attach(self, connection: Connection, reused: bool) -> None:
        """A connection is there: the request, and what of its body has come, is written."""
        self.connection = connection
        self.reused = reused
        connection.begin(self)
        if self._body is not None:
            connection.transport.write(self._request + self._body.early(self.body_done))
            if not (self._replay and self.body_done):
                self._body.forget()
                self._replay = False
        else:
            connection.transport.write(self._request)
        route = self.request.route
        self._client.wait(route.first_byte_seconds if self.body_done else route.idle_seconds)
        if self.body_done:
            self._ask()
        elif not connection.paused:
            self._client.resume_reading()

    def refuse(self, problem: Problem) -> None:
        """No upstream will answer: we do."""
        self._end()
        self._client.refuse(self.request, problem)

    # From the upstream's connection.

    @property
    def unread_bytes(self) -> int:
        """What the service has not read."""
        return 0 if self.connection is None else self.connection.unread_bytes

    def upstream_full(self) -> None:
        self._client.service_full()

    def upstream_ready(self) -> None:
        if not self.body_done:
            # While the service did not read, the client could not send.
            self._client.wait(self.request.route.idle_seconds)
            self._client.resume_reading()

    def interim(self, response: Response) -> None:
        """A 1xx: passed on if this client can read it; 100 only if it was asked for."""
        head = self.request.head
        self._client.wait(
            self.request.route.first_byte_seconds if self.body_done else self.request.route.idle_seconds
        )
        if not head.http11 or (response.status == 100 and not head.expects_continue):
            return
        self._client.write(b"\r\n".join((response.status_line, *response.headers)) + b"\r\n\r\n")

    def begin_response(self, response: Response) -> None:
        """The final head is known; it is written with the first piece of the body."""
        request = self.request
        self.status = response.status
        self._record_response(self.pool)
        self.bodyless = request.head.method == b"HEAD" or response.status in (204, 304)
        self._response_head = self._format_head(response)
        if response.revoked:
            self._client.revoke(request.route.service, response.revoked)
        if response.event_stream and not self.bodyless:
            self.event_stream = True
            if (refusal := self._count_long_lived()) is not None:
                self._drop()
                self._client.refuse(request, refusal)
            else:
                self._client.watch(request)

    def _format_head(self, response: Response) -> bytes:
        request = self.request
        lines = [response.status_line, *response.headers]
        if not response.dated:
            lines.append(date(int(time())))  # RFC 9110, 6.6.1
        if response.length is not None:
            if response.status != 204:
                lines.append(b"Content-Length: %d" % response.length)
        elif not self.bodyless:
            if request.head.http11:
                self._chunked_down = True
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self.keep = False
        if self._client.draining or request.upgrading or not self.body_done:
            self.keep = False
        if not self.keep:
            lines.append(b"Connection: close")
        elif not request.head.http11:
            lines.append(b"Connection: keep-alive")
        if request.response_headers:
            lines.append(request.response_headers)
        lines.append(b"X-Request-Id: %b\r\n%b\r\n\r\n" % (request.request_id, self._client.own_headers))
        return b"\r\n".join(lines)

    def deliver(self, parts: list[bytes], complete: bool) -> None:
        """Pieces of the answer's body, with the head if it has not been written yet."""
        out = parts
        if out:
            size = len(out[0]) if len(out) == 1 else sum(map(len, out))
            self.sent += size
            if self._chunked_down:
                out = [b"%x\r\n" % size, *out, b"\r\n"]
        if complete and self._chunked_down:
            out.append(b"0\r\n\r\n")
        if not self.responded:
            self.responded = True
            self._replay = False
            out.insert(0, self._response_head)
        if out:
            self._client.write(b"".join(out) if len(out) > 1 else out[0])
        if complete:
            self._complete()
        else:
            self._client.wait(self.request.route.idle_seconds)
            if not self._long_lived:
                self._watch_long()

    def _watch_long(self) -> None:
        now = perf_counter()
        self._began = self._began or now
        if now - self._began > LONG_SECONDS:
            if self._count_long_lived() is not None:
                self.end_stream()
            else:
                self._client.watch(self.request)

    def _count_long_lived(self) -> Problem | None:
        """Why the exchange may not keep its connection for long; None if it may."""
        self._long_lived = True
        if self.pool is None or self.connection is None:
            return None
        return self.pool.count_long_lived(self.connection, network_of(self.request.client))

    def _complete(self) -> None:
        connection, pool = self.connection, self.pool
        self.over = True
        self.leave()
        if self._body is not None:
            self._body.forget()
        if pool is not None:
            self.upstream.succeeded(pool)
        if connection is not None:
            unsent = self.request.head.has_body and self._unsent(connection)
            connection.release(self.body_done and not unsent)
        self._client.finished(self, self.keep and self.body_done)

    def _unsent(self, connection: Connection) -> bool:
        # An upstream that answered without reading the whole body may close, or take the rest for the next request.
        return connection.transport.get_write_buffer_size() > 0

    def lost(self, connection: Connection) -> None:
        """The connection ended before the answer did."""
        if not connection.heard and self._replay and self.attempts == 0:
            if not self.reused and self.pool is not None:
                self.upstream.failed(self.pool)
            self.leave()
            self.connection = None
            if self.upstream.retry(self):
                return
        self.failed("The service closed the connection before the response was complete.")

    def failed(self, reason: str) -> None:
        """No proper answer will come of this connection."""
        if self.pool is not None:
            self.upstream.failed(self.pool)
        self._end()
        if self.responded:
            self._client.cut(self)
        else:
            self._client.refuse(self.request, BadGateway(reason))

    def may_switch(self, response: Response) -> bool:
        return (
            self.request.upgrading
            and response.upgrade is not None
            and response.upgrade.lower() == b"websocket"
        )

    def switch(self, connection: Connection, response: Response, after: bytes) -> None:
        """The upstream agreed to speak WebSocket: from here on bytes pass."""
        self._end()
        self.connection = connection
        if (refusal := self._count_long_lived()) is not None:
            connection.close()
            self._client.refuse(self.request, refusal)
            return
        self.status = 101
        self.responded = True
        Tunnel(self._client, connection, self, response).begin(after)

    def _ask(self) -> None:
        """From here on the service has all it needs to answer."""
        if not self._requested_at:
            self._requested_at = perf_counter()
            self.upstream.concurrency.waiting += 1

    def _record_response(self, by: Pool | None = None) -> None:
        """It waits no more: it is answered, or has waited until its deadline."""
        if self._requested_at > 0:
            route, now = self.request.route, perf_counter()
            waited, self._requested_at = now - self._requested_at, 0.0
            self.upstream.concurrency.responded(route.name, waited, route.first_byte_seconds)
            if by is not None:
                by.responded_at = now

    def _drop(self) -> None:
        """The exchange is over, and the service is to notice."""
        self._end()
        if self.connection is not None:
            self.connection.close()

    def _end(self) -> None:
        if self._requested_at > 0:
            self._requested_at = 0.0
            self.upstream.concurrency.left()
        self.over = True
        self.leave()
        if self._body is not None:
            self._body.forget()
