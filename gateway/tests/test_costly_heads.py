"""No head, and no frame, costs many steps: thousands of elements fit into one, and all others on the loop wait."""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from gateway.http1 import request_head
from gateway.http1.head import Head
from gateway.http1.parser import Reader
from gateway.http1.request_head import MAX_HEAD, MAX_TARGET
from gateway.pipeline import Pipeline
from gateway.policy.authentication import Callers
from gateway.policy.rate_limits import Addresses, Limits
from gateway.policy.response_revocations import ResponseRevocations
from gateway.policy.shared_revocations import SharedRevocations
from gateway.portal.pages import OWN_ROUTES
from gateway.rate_limit.leases import LimitLeases, Nowhere
from gateway.routing.routes import Route, Routes
from gateway.upstream.response import read_response
from gateway.upstream.tunnel import Frames
from service_kit.jwks import KeyCache
from service_kit.revocations import Revocations
from service_kit.testing import TestIssuer
from service_kit.tokens import Verifier
from tests.wire import get

_ROOM = MAX_HEAD - 300
_SWITCHING = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: a",
)


def steps_of(work: Callable[[], object]) -> int:
    """How many functions are called, Python's own included: the same on every machine, however busy."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return steps


@pytest.fixture(name="pipeline")
async def _pipeline() -> Pipeline:
    issuer = TestIssuer()
    keys = KeyCache(lambda: _value(issuer.jwks()))
    await keys.refresh()
    revocations = Revocations()
    revocations.prove(time.time())
    callers = Callers(
        Verifier(keys, revocations, {"http://localhost:8080": None}),
        ResponseRevocations(revocations, (), SharedRevocations()),
    )
    routes = (
        Route("echo", "public", "/public", frozenset({"GET"}), "here", public=True),
        Route("echo", "private", "/private", frozenset({"GET"}), "here", websocket=True),
    )
    return Pipeline(
        Routes((*OWN_ROUTES, *routes)), None, callers, Limits(Addresses(0, 1), LimitLeases(Nowhere(), 1))
    )


async def _value(document: dict[str, Any]) -> dict[str, Any]:
    return document


@pytest.mark.parametrize(
    "raw",
    [
        get(b"/", b"Accept: " + b"a," * (_ROOM // 2)),
        get(b"/", b"Accept: " + b"a;q=1," * (_ROOM // 6)),
        get(b"/", b"Accept: " + b"a;" * (_ROOM // 2)),
        get(b"/private?" + b"&" * (MAX_TARGET - 10)),
        get(b"/private?" + b"%61&" * (MAX_TARGET // 4 - 10)),
        get(b"/public", b"Connection: " + b"," * _ROOM),
        get(b"/public", b"Connection: " + b",".join(b"%d" % number for number in range(2700))),
        get(b"/public", b"Via: " + b"a," * (_ROOM // 2)),
        get(b"/public", b"Expect: " + b"," * _ROOM),
        get(b"/private", *_SWITCHING[:1], b"Upgrade: " + b"a," * (_ROOM // 2)),
        get(b"/private", *_SWITCHING, b"Sec-WebSocket-Protocol: " + b"a," * (_ROOM // 2)),
        get(b"/public", b"Cookie: " + b"a;" * (_ROOM // 2)),
        get(b"/public" + b"/a" * (MAX_TARGET // 2 - 10)),
        get(b"/private", b"Authorization: Bearer " + b"a." * (_ROOM // 2)),
    ],
    ids=lambda raw: raw[:60].decode("ascii").replace("\r\n", " "),
)
async def test_a_head_takes_few_steps_whatever_it_lists(pipeline: Pipeline, raw: bytes) -> None:
    def decide() -> None:
        reader = Reader()
        reader.buffer = raw
        head = reader.next_head()
        assert isinstance(head, Head)
        head.peer = b"192.0.2.1"
        pipeline.decide(head, time.time())

    decide()  # what is imported or remembered the first time is not meant
    assert steps_of(decide) < 1000


def test_a_frame_takes_no_step_of_its_own() -> None:
    frames = Frames()
    assert steps_of(lambda: frames.feed(b"\x8a\x00" * 10_000 + b"\x81\x01a" * 10_000)) < 100
    assert frames.at_boundary


def test_whoever_sends_thousands_of_names_keeps_none_from_being_remembered() -> None:
    def read(*lines: bytes) -> None:
        request_head.read(get(b"/", *lines)[:-4])

    for number in range(5000):
        read(b"X-Odd-%d: 1" % number)
        request_head.read(b"GET / HTTP/1.1\r\nHost: odd-%d" % number)
        read_response(b"HTTP/1.1 200 Odd %d\r\nX-Odd-%d: 1" % (number, number))
    for work in (
        lambda: read(b"X-Usual: 1"),
        lambda: request_head.read(b"GET / HTTP/1.1\r\nHost: usual"),
        lambda: read_response(b"HTTP/1.1 200 Usual"),
        lambda: read_response(b"HTTP/1.1 200 OK\r\nX-Usual: 1"),
    ):
        first = steps_of(work)
        assert steps_of(work) < first, "it is classified once"
