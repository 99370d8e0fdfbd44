"""One exchange: a request on its way to an upstream and the answer on its way back, both streamed."""

import asyncio
from time import perf_counter, time
from typing import Final, Protocol, cast

from gateway.clock import date
from gateway.forwarding import prepare
from gateway.limits import network_of
from gateway.passage import Passage
from gateway.upstream import tunnel
from gateway.upstream.answer import Answer
from gateway.upstream.bodies import Body
from gateway.upstream.connections import Connection
from gateway.upstream.dispatch import Upstream
from gateway.upstream.exceptions import BadGateway, GatewayTimeout, RequestTimeout
from gateway.upstream.pool import Pool
from gateway.upstream.retries import IDEMPOTENT
from gateway.upstream.tunnel import Served, Tunnel
from service_kit.problems import Problem

# A response that lasts longer is one of the long-lived: it counts as such, and ends with its session.
LONG_SECONDS: Final = 10.0
_UNCOUNTED: Final = -1.0  # instead of the time since when a client waits that may be gone


class Client(tunnel.Client, Protocol):
    """What an exchange needs of the client's connection."""

    @property
    def draining(self) -> bool: ...

    full: bool  # it does not read what was written
    own_fields: bytes  # what is on every answer of the gateway

    def refuse(self, passage: Passage, problem: Problem) -> None: ...
    def cut(self, served: Served) -> None: ...
    def watch(self, passage: Passage) -> None: ...
    def revoke(self, service: str, values: list[bytes]) -> None: ...


class Exchange:
    """Made for a request that may pass; lives until the answer is complete or one side is gone."""

    __slots__ = (
        "_answer_head",
        "_asked",
        "_began",
        "_body",
        "_chunked_down",
        "_client",
        "_counted",
        "_long_lived",
        "_replay",
        "_request",
        "_uploader",
        "attempts",
        "body_done",
        "bodyless",
        "connection",
        "event_stream",
        "keep",
        "over",
        "passage",
        "pool",
        "resolving",
        "responded",
        "reused",
        "sent",
        "started",
        "status",
        "upstream",
    )

    def __init__(self, client: Client, passage: Passage, upstream: Upstream, started: float) -> None:
        head = passage.head
        self._client = client
        self.passage = passage
        self.upstream = upstream
        self.started = started
        self._request = prepare(passage, upstream.authority)
        self._body = Body(head, upstream.bodies) if head.has_body else None
        self._uploader = b""  # the client's network while it has an address and the body is still coming
        self._replay = head.method in IDEMPOTENT and not head.chunked
        self._answer_head = b""
        self._asked = 0.0  # when the whole request had been sent; 0 again when it is answered
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
            self._client.hold()
        self._client.wait(self.passage.route.first_byte_seconds)
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
            self._client.hold()
        if body.passed(len(chunk), self.passage.route.idle_seconds):
            self._client.wait(self.passage.route.idle_seconds)

    def body_ended(self) -> None:
        self.body_done = True
        if self._uploader:
            self._uploaded()
        body = cast("Body", self._body)
        if body.collecting:
            body.collecting = False
            self._send()
        elif self.connection is not None:
            if self.passage.head.chunked:
                self.connection.transport.write(b"0\r\n\r\n")
            if not self.responded:
                self._client.wait(self.passage.route.first_byte_seconds)
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
        if self._asked > 0:
            self.upstream.crowd.left()
        self._asked = _UNCOUNTED

    def abandon(self) -> None:
        """The client is gone, or was told to go: the upstream's connection goes too."""
        if self.over:
            return
        if self._asked and self._leave_it_counted():
            return
        self._end()
        if self.connection is not None:
            self.connection.close()
        elif self.pool is not None:
            self.pool.forget(self)

    def _leave_it_counted(self) -> bool:
        """Whether the exchange counts until the service has noticed that its client is gone.

        A service that is behind still has the request, and will work on it. Were it counted no more, clients who ask and
        leave could pile up any number of requests there, and whoever stays would wait behind them.
        """
        connection = self.connection
        if connection is None or not self.body_done or not connection.may_be_abandoned:
            return False
        if not self.upstream.crowd.keep(counted=self._asked > 0):
            return False
        self.over = True
        if self._body is not None:
            self._body.forget()
        self._asked = perf_counter()
        connection.abandon(self.passage.route.first_byte_seconds)
        return True

    def noticed(self) -> None:
        """The service has noticed that the client left, or had time to."""
        route, took = self.passage.route, perf_counter() - self._asked
        self.upstream.crowd.noticed(route.name, took, route.first_byte_seconds)
        self.leave()

    def end_stream(self) -> None:
        """The response ends here. Events do as if the service had ended them: a client that asks again is told why. Of
        any other the client must not take what has come for the whole."""
        if self.over:
            return
        self._end()
        if self.connection is not None:
            self.connection.close()
        if not self.event_stream:
            self._client.cut(self)
            return
        end = b"0\r\n\r\n" if self._chunked_down else b""
        self._client.write(end if self.responded else self._answer_head + end)
        # Closed only where nothing else tells the end: a client may be asking again at this very moment.
        self._client.finished(self, self.keep and self._chunked_down)

    def timed_out(self) -> None:
        """The deadline passed, whichever it was."""
        since = self._asked if self._asked > 0 else self.started
        self._answered()
        waiting_for_client = self._waits_for_body()
        if not waiting_for_client and not self._client.full and self.pool is not None:
            self.upstream.timed_out(self.pool, since)
        self.abandon()
        if self.responded:
            self._client.cut(self)
        else:
            self._client.refuse(self.passage, RequestTimeout() if waiting_for_client else GatewayTimeout())

    def _waits_for_body(self) -> bool:
        """A body that streams is not read while there is no connection, or while the service does not read."""
        if self._body is None or self.body_done:
            return False
        return self._body.collecting or (self.connection is not None and not self.connection.paused)

    # From the upstream's addresses.

    def enter(self, pool: Pool) -> bool:
        """Counts as outstanding at this address until it leaves; False if its client has too many uploads there."""
        if not self.body_done:
            network = network_of(self.passage.client)
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
        route = self.passage.route
        self._client.wait(route.first_byte_seconds if self.body_done else route.idle_seconds)
        if self.body_done:
            self._ask()
        elif not connection.paused:
            self._client.go_on()

    def refuse(self, problem: Problem) -> None:
        """No upstream will answer: we do."""
        self._end()
        self._client.refuse(self.passage, problem)

    # From the upstream's connection.

    def upstream_full(self) -> None:
        self._client.hold()

    def upstream_ready(self) -> None:
        if not self.body_done:
            # While the service did not read, the client could not send.
            self._client.wait(self.passage.route.idle_seconds)
            self._client.go_on()

    def interim(self, answer: Answer) -> None:
        """A 1xx: passed on if this client can read it; 100 only if it was asked for."""
        head = self.passage.head
        self._client.wait(
            self.passage.route.first_byte_seconds if self.body_done else self.passage.route.idle_seconds
        )
        if not head.http11 or (answer.status == 100 and not head.expects_continue):
            return
        self._client.write(b"\r\n".join((answer.status_line, *answer.fields)) + b"\r\n\r\n")

    def begin_answer(self, answer: Answer) -> None:
        """The final head is known; it is written with the first piece of the body."""
        passage = self.passage
        self.status = answer.status
        self._answered(self.pool)
        self.bodyless = passage.head.method == b"HEAD" or answer.status in (204, 304)
        self._answer_head = self._write_answer_head(answer)
        if answer.revoked:
            self._client.revoke(passage.route.service, answer.revoked)
        if answer.event_stream and not self.bodyless:
            self.event_stream = True
            if (refusal := self._count_long_lived()) is not None:
                self._end()
                if self.connection is not None:
                    self.connection.close()
                self._client.refuse(passage, refusal)
            else:
                self._client.watch(passage)

    def _write_answer_head(self, answer: Answer) -> bytes:
        passage = self.passage
        lines = [answer.status_line, *answer.fields]
        if not answer.dated:
            lines.append(date(int(time())))  # RFC 9110, 6.6.1
        if answer.length is not None:
            if answer.status != 204:
                lines.append(b"Content-Length: %d" % answer.length)
        elif not self.bodyless:
            if passage.head.http11:
                self._chunked_down = True
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self.keep = False
        if self._client.draining or passage.upgrading or not self.body_done:
            self.keep = False
        if not self.keep:
            lines.append(b"Connection: close")
        elif not passage.head.http11:
            lines.append(b"Connection: keep-alive")
        if passage.answer_fields:
            lines.append(passage.answer_fields)
        lines.append(b"X-Request-Id: %b\r\n%b\r\n\r\n" % (passage.request_id, self._client.own_fields))
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
            out.insert(0, self._answer_head)
        if out:
            self._client.write(b"".join(out) if len(out) > 1 else out[0])
        if complete:
            self._complete()
        else:
            self._client.wait(self.passage.route.idle_seconds)
            if not self._long_lived:
                self._watch_long()

    def _watch_long(self) -> None:
        now = perf_counter()
        self._began = self._began or now
        if now - self._began > LONG_SECONDS:
            if self._count_long_lived() is not None:
                self.end_stream()
            else:
                self._client.watch(self.passage)

    def _count_long_lived(self) -> Problem | None:
        """Why the exchange may not keep its connection for long; None if it may."""
        self._long_lived = True
        if self.pool is None or self.connection is None:
            return None
        return self.pool.count_long_lived(self.connection, network_of(self.passage.client))

    def _complete(self) -> None:
        connection, pool = self.connection, self.pool
        self.over = True
        self.leave()
        if self._body is not None:
            self._body.forget()
        if pool is not None:
            self.upstream.succeeded(pool)
        if connection is not None:
            unsent = self.passage.head.has_body and self._unsent(connection)
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
        self.failed("the connection was closed")

    def failed(self, reason: str) -> None:
        """No proper answer will come of this connection."""
        if self.pool is not None:
            self.upstream.failed(self.pool)
        self._end()
        if self.responded:
            self._client.cut(self)
        else:
            self._client.refuse(self.passage, BadGateway(reason))

    def may_switch(self, answer: Answer) -> bool:
        return (
            self.passage.upgrading and answer.upgrade is not None and answer.upgrade.lower() == b"websocket"
        )

    def switch(self, connection: Connection, answer: Answer, after: bytes) -> None:
        """The upstream agreed to speak WebSocket: from here on bytes pass."""
        self._end()
        self.connection = connection
        if (refusal := self._count_long_lived()) is not None:
            connection.close()
            self._client.refuse(self.passage, refusal)
            return
        self.status = 101
        self.responded = True
        Tunnel(self._client, connection, self, answer).begin(after)

    def _ask(self) -> None:
        """From here on the service has all it needs to answer."""
        if not self._asked:
            self._asked = perf_counter()
            self.upstream.crowd.waiting += 1

    def _answered(self, by: Pool | None = None) -> None:
        """It waits no more: it is answered, or has waited until its deadline."""
        if self._asked > 0:
            route, now = self.passage.route, perf_counter()
            waited, self._asked = now - self._asked, 0.0
            self.upstream.crowd.answered(route.name, waited, route.first_byte_seconds)
            if by is not None:
                by.answered_at = now

    def _end(self) -> None:
        if self._asked > 0:
            self._asked = 0.0
            self.upstream.crowd.left()
        self.over = True
        self.leave()
        if self._body is not None:
            self._body.forget()
