"""The uvicorn HTTP protocol: one request after the other, each to where it belongs, with deadlines for all of it."""

import asyncio
import time
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.http1 import responses
from gateway.http1.head import BodyTooLarge, Head
from gateway.http1.parser import Reader
from gateway.http1.request_head import MAX_HEAD
from gateway.policy import forwarding
from gateway.policy.authentication import CannotTell
from gateway.policy.proxy_request import ProxyRequest
from gateway.policy.rate_limits import AddressLimited
from gateway.portal.asgi import Cycle
from gateway.rate_limit.per_address import network_of
from gateway.server.flow_control import NEVER, FlowControl
from gateway.server.long_lived import TOO_OLD
from gateway.server.worker_state import WorkerState
from gateway.upstream.exceptions import RequestTimeout
from gateway.upstream.exchange import Exchange
from gateway.upstream.tunnel import CLOSE_GOING_AWAY, CLOSE_POLICY, Tunnel
from service_kit.health import draining
from service_kit.http_protocol import BoundedProtocol
from service_kit.jwks import FetchOutcome
from service_kit.problems import Problem

_LAST_WORD_SECONDS: Final = 0.5
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SILENT_SECONDS: Final = 1.0  # in which a client that has connected says what it wants
_HELD_FOR_SWITCH: Final = 16 * 1024
# Bytes of requests that are held while the earlier ones' answers are not read; and of all connections together while
# requests wait for earlier ones. Beyond it a connection keeps a head's.
_AHEAD_MOST: Final = 64 * 1024
_AHEAD_IN_ALL: Final = 8 * 1024 * 1024
_RESPONSES_HELD: Final = 8 * 1024
_SOON: Final = {"Retry-After": "1"}
_REFUSED_WITH_REASON: Final = 64  # connections beyond a bound that hear why; each of them lasts until it has


def _keys_unavailable() -> Problem:
    return CannotTell(code="keys_unavailable", headers=_SOON)


class ClientConnection(FlowControl):
    """One client connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._state: WorkerState = app_state["worker_state"]
        super().__init__(self._state.clock, self._state.idle_seconds)
        self._uvicorn = (config, server_state, app_state, _loop)
        self._connections: set[Any] = server_state.connections
        self.own_headers = self._state.own_headers
        self._reader = Reader()
        self._peer = b""
        self.network = b""  # whose connection this is counted as
        self._place = b""  # whose exchange is under way
        self._head_began = False
        self._served = False
        self._exchange: Exchange | None = None
        self._cycle: Cycle | None = None
        self._tunnel: Tunnel | None = None
        self._looking_for_key: asyncio.Task[None] | None = None
        self._advancing = False
        self._body_rests = False  # so does the rest of a chunked body
        self._wants_more = False  # while it does: whether reading goes on behind it
        self._resting = False  # the next request waits for other connections
        self._pipelined = False  # sends requests before the earlier ones are answered
        self._ahead = 0  # bytes of them, as counted among those of all connections
        self._ran_ahead = False  # more came than is held of a client that does not read
        self._watched = False  # carries a WebSocket or an event stream
        self._stopping = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        state, self._transport = self._state, cast("asyncio.Transport", transport)
        self.write = self._transport.write
        if transport.get_extra_info("sockname")[1] == state.internal_port:
            internal = BoundedProtocol(*self._uvicorn)
            self._transport.set_protocol(internal)
            internal.connection_made(self._transport)
            return
        peer = transport.get_extra_info("peername")
        self._peer = peer[0].encode() if peer else b"-"
        self.network = network_of(self._peer)
        self._connections.add(self)
        self.wait(state.head_seconds)
        too_many, refusal = state.admit(self, self._peer, self.network)
        if too_many > _REFUSED_WITH_REASON:
            self._abort()
        elif too_many > 0:
            self._refuse_unread(refusal(headers=_SOON))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._state.forget(self, self.network)
        self._state.ahead -= self._ahead
        if self._place:
            self._leave_place()
        self._closing = True
        self.deadline = NEVER
        self._unwatch()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.abandon()
            self._state.access_log.record(exchange.request, 499, exchange.sent, exchange.started)
        elif self._tunnel is not None:
            tunnel, self._tunnel = self._tunnel, None
            tunnel.client_lost()
            exchange = tunnel.exchange
            self._state.access_log.record(exchange.request, exchange.status, exchange.sent, exchange.started)
        elif self._cycle is not None:
            cycle, self._cycle = self._cycle, None
            cycle.disconnect()
            self._state.access_log.record(cycle.request, 499, 0, cycle.started)

    def eof_received(self) -> bool:
        if self._tunnel is not None:
            self._half_closed = True
            self._tunnel.client_ended()
            return True
        if self._closing or not self._busy:
            return False
        if self._reader.body_left:
            self._abort()  # the rest of the body will never come
            return False
        self._half_closed = True
        if self._exchange is not None:
            self._may_be_gone(self._exchange)
        return True

    def _may_be_gone(self, exchange: Exchange) -> None:
        if not exchange.responded:
            exchange.client_ended()
            self._state.half_closed.add(self, network_of(exchange.request.client), self._state.clock.now)

    @property
    def unanswered(self) -> bool:
        """Whether its request is under way and nothing of the answer has come."""
        return self._exchange is not None and not self._exchange.responded

    def probe(self) -> None:
        """Writes what a client passes over, and what only one that is gone answers."""
        if self._exchange is not None and self._exchange.request.head.http11:
            self.write(_CONTINUE)

    def pause_writing(self) -> None:
        self.full = True
        self._state.slow_readers.add(self, self._place or self.network)
        self._bound_ahead()
        if self._exchange is not None:
            self._exchange.client_full()
        elif self._tunnel is not None:
            self._tunnel.client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self._exchange is not None:
            self._exchange.client_ready()
        elif self._tunnel is not None:
            self._tunnel.client_ready()
        elif self._cycle is not None:
            self._cycle.client_ready()
        else:
            self._read_on()
            self._advance()

    def service_full(self) -> None:
        """The service does not read what came from here."""
        self.pause_reading()
        self._state.slow_readers.add(self, self._place or self.network)

    @property
    def unread_bytes(self) -> int:
        """What was written, to the client or for it to the service, and is not in the kernel yet."""
        passing = self._exchange or self._tunnel
        unread = self._transport.get_write_buffer_size()
        return unread if passing is None else unread + passing.unread_bytes

    def end_unread(self) -> None:
        """Too much is held that nobody reads, and the most of it for this one's address."""
        exchange = self._exchange
        if exchange is not None and exchange.responded:
            exchange.abandon()
            self.cut(exchange)
        else:
            self._reset()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._tunnel is not None:
            self._tunnel.from_client(data)
        elif self._closing:
            pass
        elif self._exchange is not None and reader.body_left:
            self._read_body(data)
        elif self._ran_ahead:
            self.pause_reading()
        elif self._busy or self.full:
            reader.buffer += data  # the next request's: it waits for this one's answer, and for it to be read
            switching = self._exchange is not None and self._exchange.request.upgrading
            if len(reader.buffer) > _HELD_FOR_SWITCH or not switching:
                self.pause_reading()
                self._pipelines()
        else:
            reader.buffer = reader.buffer + data if reader.buffer else data
            self._advance()

    def shutdown(self) -> None:
        """uvicorn stops: a busy connection closes after its answer, an idle one soon: a request may be on its way. What
        would never end by itself ends now."""
        self._stopping = True
        if self._tunnel is not None:
            self._tunnel.close(CLOSE_GOING_AWAY, "going_away")
        elif self._exchange is not None and self._exchange.event_stream:
            self._exchange.end_stream()  # its client asks again, of whoever is there by then
        elif not (self._busy or self._closing):
            self.wait(_LAST_WORD_SECONDS)

    @property
    def draining(self) -> bool:
        """Whether each answer asks its client to open its next connection elsewhere."""
        return self._stopping or self._ran_ahead or draining.leaving

    @property
    def _busy(self) -> bool:
        return (
            self._exchange is not None
            or self._cycle is not None
            or self._looking_for_key is not None
            or self._resting
        )

    @property
    def idle(self) -> bool:
        """Whether it waits for a next request, or has said nothing for a while."""
        quiet = self._served or self.deadline < self._clock.now + self._state.head_seconds - _SILENT_SECONDS
        under_way = self._busy or self._closing or self._tunnel is not None or self._reader.buffer
        return quiet and not under_way and not self.unread_bytes

    # Reading.

    def _advance(self) -> None:
        """Takes the next request out of the buffer, unless it has to wait."""
        if self._advancing:
            return
        self._advancing = True
        if self._reader.buffer and not (self._busy or self._closing or self.full):
            self._take_request()
        self._advancing = False
        if (self._half_closed or self._ran_ahead) and not (self._busy or self._closing or self.full):
            self._linger()  # the rest of a head will never come

    def _take_request(self) -> None:
        started = time.perf_counter()
        try:
            head = self._reader.next_head()
        except Problem as problem:
            self._refuse_unread(problem)
            return
        if head is None:
            if not self._head_began:
                self._head_began = True
                self.wait(self._state.head_seconds)
            return
        self._head_began = False
        head.peer = self._peer
        self._decide(head, started)
        if self._reader.buffer or self._ahead:
            self._pipelines()
            if self._reader.buffer and not self._busy:
                self._rest()

    def _pipelines(self) -> None:
        """Of the answers to a client that does not wait for them few are held, and not as much as of a large one."""
        if not self._pipelined:
            self._pipelined = True
            self._transport.set_write_buffer_limits(high=_RESPONSES_HELD)
        self._bound_ahead()
        held = len(self._reader.buffer)
        self._state.ahead += held - self._ahead
        self._ahead = held

    def _bound_ahead(self) -> None:
        """Drops what is too far ahead of answers that are not read: its client has to expect that (RFC 9112, 9.3.2)."""
        held = len(self._reader.buffer)
        most = MAX_HEAD if self._state.ahead > _AHEAD_IN_ALL else _AHEAD_MOST if self.full else held
        if held > most and not self._reader.body_left:
            self._reader.buffer = b""
            self._ran_ahead = True

    def _rest(self) -> None:
        """Thousands of requests fit into one read: before the next of them all other connections have their turn."""
        self._resting = True
        if len(self._reader.buffer) > MAX_HEAD:
            self.pause_reading()
        asyncio.get_running_loop().call_soon(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_on()
        self._advance()

    def _read_body(self, data: bytes) -> None:
        exchange, reader = cast("Exchange", self._exchange), self._reader
        most = exchange.request.route.body_max_bytes
        try:
            body = reader.body(data)
            if reader.body_read > most:
                raise BodyTooLarge(f"The route takes at most {most} bytes.")
        except Problem as problem:
            self._give_up(exchange, problem)
            return
        if body:
            exchange.body(body, last=not reader.body_left)
        if reader.turn_over and self._exchange is exchange:
            self._rest_of_body(exchange)
        if not reader.body_left and self._exchange is exchange:
            if reader.buffer:
                self.pause_reading()
            else:
                self.resume_reading()  # nothing more is expected, but a client that goes away should be noticed
            exchange.body_ended()

    def _rest_of_body(self, exchange: Exchange) -> None:
        """Tens of thousands of chunks fit into one read: before more of them all other connections have their turn."""
        wants_more = not self._held
        self.pause_reading()
        self._body_rests, self._wants_more = True, wants_more
        asyncio.get_running_loop().call_soon(self._body_rested, exchange)

    def _body_rested(self, exchange: Exchange) -> None:
        self._body_rests = False
        if self._wants_more:
            self.resume_reading()
        if self._exchange is exchange and not self._closing:
            self._read_body(b"")

    def pause_reading(self) -> None:
        self._wants_more = False
        super().pause_reading()

    def resume_reading(self) -> None:
        if self._body_rests:
            self._wants_more = True
        else:
            super().resume_reading()

    # Deciding.

    def _decide(self, head: Head, started: float, again: bool = False) -> None:
        state = self._state
        request = state.pipeline.decide(head, time.time(), again)
        if request.refusal is not None:
            self._respond(request, request.refusal, started)
        elif request.unknown_key is not None:
            self._look_for_key(head, request, started)
        elif request.preflight:
            self._respond(request, None, started)
        elif request.client is not self._peer and not self._take_place(request.client):
            self._respond(request, AddressLimited(headers=_SOON), started)
        elif request.route.service == "gateway":
            self.deadline = NEVER  # what a page asks for has deadlines of its own
            self._cycle = Cycle(self, request, started)
            self._cycle.start(state.portal)
        else:
            self._exchange_with(request, started)

    def _take_place(self, client: bytes) -> bool:
        """A client behind a proxy has a bounded number of exchanges; any other has one for each connection."""
        network = network_of(client)
        if self._state.exchanges.take(network):
            self._place = network
        return bool(self._place)

    def _leave_place(self) -> None:
        self._state.exchanges.leave(self._place)
        self._place = b""

    def _exchange_with(self, request: ProxyRequest, started: float) -> None:
        upstream = self._state.upstream(request.route.service)
        exchange = self._exchange = Exchange(self, request, upstream, started)
        if self._half_closed:
            self._may_be_gone(exchange)
        exchange.start()
        if not exchange.body_done and self._exchange is exchange:
            early, self._reader.buffer = self._reader.buffer, b""
            if early:
                self._read_body(early)

    def _look_for_key(self, head: Head, request: ProxyRequest, started: float) -> None:
        state = self._state
        if not state.key_places.take():
            self._respond(request, _keys_unavailable(), started)
            return
        self.pause_reading()
        self.deadline = NEVER
        self._looking_for_key = asyncio.get_running_loop().create_task(self._find_key(head, request, started))

    async def _find_key(self, head: Head, request: ProxyRequest, started: float) -> None:
        outcome = await self._state.key_places.look(cast("str", request.unknown_key))
        self._looking_for_key = None
        if self._closing:
            return
        if outcome is FetchOutcome.UNAVAILABLE:
            self._respond(request, _keys_unavailable(), started)
        else:
            self._decide(head, started, again=True)
        self._advance()

    # Answering.

    def _respond(self, request: ProxyRequest, problem: Problem | None, started: float) -> None:
        """Answers by ourselves, without a problem a preflight; a body that has not been read ends the connection."""
        close = not (self._reader.skip_body() and request.head.keep_alive) or self.draining
        self.write(responses.own_response(request, problem, self.own_headers, close))
        if problem is None:
            self._state.access_log.record(request, 204, 0, started)
        else:
            code = str(problem.members.get("code", problem.code))
            self._state.access_log.record(request, int(problem.status), 0, started, code=code)
        self._after_response(not close)

    def _refuse_unread(self, problem: Problem) -> None:
        """Answers what could not be read as a request, and reads no more."""
        request_id = forwarding.new_request_id()
        head_only = self._reader.buffer.removeprefix(b"\r\n").startswith(b"HEAD ")
        self.write(responses.unread_response(problem, request_id, self.own_headers, head_only))
        self._state.access_log.refused(self._peer, request_id, problem)
        self._after_response(False)

    def _after_response(self, keep: bool) -> None:
        if self._place:
            self._leave_place()
        if not keep or self._closing or self._ran_ahead:
            self._reader.buffer = b""
            self._linger()
            return
        self._served = True
        self.wait(_LAST_WORD_SECONDS if self._stopping else self._state.keepalive_seconds)
        self._read_on()
        if self._reader.buffer or self._half_closed:
            self._advance()

    def _read_on(self) -> None:
        """Whoever sends requests faster than they are answered has no more than a head and what was read with it here."""
        if self._held and len(self._reader.buffer) <= MAX_HEAD:
            self.resume_reading()

    def _give_up(self, exchange: Exchange, problem: Problem) -> None:
        """The request went wrong half-way: the upstream is told, and the client if it can still be."""
        self._exchange = None
        exchange.abandon()
        if exchange.responded:
            self._state.access_log.record(
                exchange.request, exchange.status, exchange.sent, exchange.started, code=problem.code
            )
            self._reset()
        else:
            self._reader.spoil()
            self._respond(exchange.request, problem, exchange.started)

    # What the exchange, the tunnel and the portal's cycle ask for.

    def refuse(self, request: ProxyRequest, problem: Problem) -> None:
        """The exchange ends without an answer from upstream."""
        if self._watched:
            self._unwatch()
        exchange, self._exchange = self._exchange, None
        self._respond(request, problem, exchange.started if exchange is not None else time.perf_counter())

    def finished(self, exchange: Exchange, keep: bool) -> None:
        """The exchange's answer, or the tunnel, is complete."""
        if self._watched:
            self._unwatch()
        self._exchange = None
        self._tunnel = None
        self._state.access_log.record(exchange.request, exchange.status, exchange.sent, exchange.started)
        self._after_response(keep)

    def cut(self, exchange: Exchange) -> None:
        """The answer broke off: the client must not take it for complete."""
        self._unwatch()
        self._exchange = None
        self._state.access_log.record(
            exchange.request, exchange.status, exchange.sent, exchange.started, code="cut_short"
        )
        self._reset()

    def tunnelled(self, tunnel: Tunnel) -> None:
        """The connection speaks WebSocket from here on."""
        self._exchange = None
        self._tunnel = tunnel
        self.deadline = NEVER
        if self._ran_ahead:
            self._reset()  # some of what it sent before the switch is lost
            return
        early, self._reader.buffer = self._reader.buffer, b""
        if early:
            tunnel.from_client(early)
        self.resume_reading()
        self.watch(tunnel.request)
        if self._half_closed:
            tunnel.client_ended()

    def watch(self, request: ProxyRequest) -> None:
        """What is open now may outlive its token, but not its session."""
        self._watched = True
        self._state.long_lived.add(self, request.caller, self._state.clock.now)

    def revoke(self, service: str, values: list[bytes]) -> None:
        """The service says what has ended."""
        self._state.response_revocations.take(service, values)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._state.long_lived.remove(self)

    def close_long_lived(self, code: str) -> None:
        """The WebSocket or event stream has to end; `code` says why."""
        self._watched = False
        if self._tunnel is not None:
            self._tunnel.close(CLOSE_GOING_AWAY if code == TOO_OLD else CLOSE_POLICY, code)
        elif self._exchange is not None:
            self._exchange.end_stream()

    def cycle_finished(self, cycle: Cycle, status: int, sent: int, keep: bool) -> None:
        self._cycle = None
        self._state.access_log.record(cycle.request, status, sent, cycle.started)
        self._after_response(keep)

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        if self._tunnel is not None:
            self._tunnel.close(CLOSE_GOING_AWAY, "")
        elif self._closing:
            self._lingered()
        elif self._exchange is not None:
            self._exchange.timed_out()
        elif self._cycle is not None:
            self._reset()
        elif self._reader.buffer:
            self._refuse_unread(RequestTimeout())
        elif self._transport.get_write_buffer_size():
            self._linger()  # close() alone would wait for ever for a client that does not read
        else:
            self._transport.close()
