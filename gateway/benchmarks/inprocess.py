"""The proxied path in one process and without sockets: what a request costs the gateway's own code, and its parts.

Processor time of this process alone, so that a busy machine hardly matters; what the kernel and the event loop take
comes on top, and only the side-by-side run tells it.
"""

import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks.client import message
from benchmarks.load import PATH
from benchmarks.targets import BODY, PEERS
from benchmarks.tokens import ISSUER, TokenMaker
from gateway.config import Settings
from gateway.http1 import request_head
from gateway.pipeline import Pipeline
from gateway.policy import forwarding
from gateway.policy.authentication import Callers
from gateway.policy.rate_limits import Addresses, Limits
from gateway.policy.response_revocations import ResponseRevocations
from gateway.policy.shared_revocations import SharedRevocations
from gateway.rate_limit.leases import LimitLeases, Nowhere
from gateway.routing.route_table import read_table
from gateway.server.access_log import AccessLog
from gateway.server.client_connection import ClientConnection
from gateway.server.long_lived import LongLivedConnections
from gateway.server.worker_state import WorkerState
from gateway.upstream.connection import Connection
from gateway.upstream.response import read_response
from service_kit.jwks import KeyCache
from service_kit.logs import Json
from service_kit.revocations import Revocations
from service_kit.tokens import Verifier

CONNECTIONS = 64
ROUNDS = 7
ANSWER = (
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 28 Nov 2026 03:00:00 GMT\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\nConnection: keep-alive\r\n\r\n{BODY}"
).encode()


class Wire:
    """Stands where a transport would, and counts what is written."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 8000)

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0


def measure(requests: int) -> None:
    """Prints microseconds of processor time a request, the least of some rounds, as others on the machine only add."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        asyncio.run(_measure(Path(folder), requests))


async def _measure(folder: Path, requests: int) -> None:
    tokens = TokenMaker(folder / "keys")
    async with _state(folder) as state:
        wires = [Wire() for _ in range(CONNECTIONS)]
        open_connections = [_connection(state, wire) for wire in wires]
        upstream = state.upstream("items")
        connection = Connection(upstream.pools[0])
        connection.connection_made(Wire())  # type: ignore[arg-type] # what is used of a transport
        upstream.pools[0].put_back(connection)

        def exchange(ask: Callable[[], bytes], number_of: int = requests) -> None:
            for number in range(number_of):
                open_connections[number % CONNECTIONS].data_received(ask())
                connection.data_received(ANSWER)

        seen = message(PATH, tokens.token())
        exchange(lambda: seen)
        written = sum(wire.writes for wire in wires)
        if written != requests or {key[3] for key in state.access_log.series} != {200}:
            raise RuntimeError(f"{written} answers to {requests} requests: {state.access_log.refusals}")
        fresh = min(requests, 2_000)
        # Seven, so that each connection has another one each time.
        seven = cycle([message(f"{PATH}{number}", tokens.token()) for number in range(7)])
        never_seen = (message(PATH, tokens.token()) for _ in count())
        rows = {
            "the same fields as the connection's last request": _time(
                lambda: exchange(lambda: seen), requests
            ),
            "another token than the last request's, seen before": _time(
                lambda: exchange(lambda: next(seven)), requests
            ),
        }
        made = list(islice(never_seen, fresh * ROUNDS))
        rows["a token never seen"] = _time(lambda: exchange(made.pop, fresh), fresh)
        for name, part in _parts(state, seen).items():
            rows[f"  {name}"] = _time(partial(_repeat, part, fresh), fresh)
    print(f"{'CPU of the proxied path, without sockets':60}{'us/request':>12}")
    for name, spent in rows.items():
        print(f"  {name:58}{spent:12.1f}")


def _parts(state: WorkerState, seen: bytes) -> dict[str, Callable[[], object]]:
    """Each step by itself; what is left of the whole are the calls between them."""
    block = seen[:-4]
    head = request_head.read(block)
    head.peer = b"127.0.0.1"
    now = time.time()
    request = state.pipeline.decide(head, now)
    reader = httptools.HttpRequestParser(SimpleNamespace())
    answer_head = ANSWER.partition(b"\r\n\r\n")[0]
    return {
        "reading the request's head": lambda: request_head.read(block),
        "llhttp on the request": lambda: reader.feed_data(seen),
        "deciding": lambda: state.pipeline.decide(head, now),
        "writing the request's head": lambda: forwarding.prepare(request, b"127.0.0.1:8000"),
        "reading the answer's head": lambda: read_response(answer_head),
        "log and metrics": lambda: state.access_log.record(request, 200, 300, time.perf_counter()),
    }


def _repeat(part: Callable[[], object], times: int) -> None:
    for _ in range(times):
        part()


def _time(run: Callable[[], object], requests: int) -> float:
    readings = []
    for _ in range(ROUNDS):
        before = time.process_time()
        run()
        readings.append(time.process_time() - before)
    return min(readings) / requests * 1e6


def _connection(state: WorkerState, wire: Wire) -> ClientConnection:
    connection = ClientConnection(Config(lambda: None), ServerState(), {"worker_state": state})
    connection.connection_made(wire)  # type: ignore[arg-type] # what is used of a transport
    return connection


async def _no_pages(scope: Scope, receive: Receive, send: Send) -> None:
    """The gateway's own pages are not measured."""


@asynccontextmanager
async def _state(folder: Path) -> AsyncIterator[WorkerState]:
    """What main.create_app makes, with keys and revocations at hand; the log goes nowhere."""
    document: dict[str, Any] = json.loads((folder / "keys" / "jwks.json").read_text())

    async def fetch() -> dict[str, Any]:
        return document

    keys = KeyCache(fetch)
    await keys.refresh()
    revocations = Revocations(3600.0)
    revocations.prove(time.time())
    settings = Settings(
        routes_dir=PEERS / "routes",
        upstreams={"items": "127.0.0.1:1"},
        upstream_probe="off",
        public_url=ISSUER,
        jwks_url="http://127.0.0.1:1/",
        revocations_redis_url="redis://127.0.0.1:1/0",
        revocations_redis_user="default",
        address_rate=1e6,
        address_burst=1_000_000,
    )
    limits = Limits(Addresses(settings.address_rate, settings.address_burst), LimitLeases(Nowhere(), 1))
    verifier = Verifier(keys, revocations, {ISSUER: None})
    response_revocations = ResponseRevocations(revocations, (), SharedRevocations())
    callers = Callers(verifier, response_revocations)
    pipeline = Pipeline(read_table(settings.routes_dir).routes, None, callers, limits)
    with Path(os.devnull).open("w") as nowhere:  # noqa: ASYNC230 - nothing else runs here
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(Json("gateway"))
        logging.getLogger().handlers = [handler]
        logging.getLogger().setLevel(logging.INFO)
        access_log, long_lived = AccessLog(1.0), LongLivedConnections(revocations, 1.0)
        state = WorkerState(settings, pipeline, keys, access_log, _no_pages, long_lived, response_revocations)
        yield state
        await state.stop()
