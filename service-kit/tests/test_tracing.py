"""Request ids and trace context are taken over when they are well formed, and made anew when they are not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit import tracing
from service_kit.tracing import RequestContext, request_id_of, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (PARENT, "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f"00-{TRACE}-{SPAN}-ff", "01"),  # only the sampled flag is understood, so only it is passed on
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", "01"),
        (f"cc-{TRACE}-{SPAN}-01", "01"),
    ],
)
def test_a_trace_goes_on_under_a_span_of_our_own(parent: str, flags: str) -> None:
    trace = trace_of(parent.encode(), b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert (trace.trace_id, trace.flags) == (TRACE, flags)
    assert trace.span_id != SPAN
    assert trace.state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert trace.header() == f"00-{TRACE}-{trace.span_id}-{flags}"


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"{PARENT}-more",
        f"{PARENT}-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"{PARENT}\n",
        f" {PARENT}",
        f"00-{TRACE}-{SPAN}",
        f"0-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_no_trace_begins_a_new_one_without_its_state(parent: str | None) -> None:
    trace = trace_of(None if parent is None else parent.encode(), b"rojo=1")
    assert trace.trace_id != TRACE
    assert (trace.flags, trace.state) == ("00", "")


PARENTS = st.binary(max_size=80) | st.from_regex(
    rb"[0-9a-f]{2}-[0-9a-fg]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-.*)?"
)


@given(PARENTS, st.none() | st.binary(max_size=600))
def test_no_header_makes_a_trace_that_cannot_be_passed_on(parent: bytes, state: bytes | None) -> None:
    trace = trace_of(parent, state)
    again = trace_of(trace.header().encode(), trace.state.encode("ascii"))
    assert (again.trace_id, again.flags, again.state) == (trace.trace_id, trace.flags, trace.state)
    assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]", trace.header())
    assert not re.search(r"[^\x20-\x7e]", trace.state)


@given(st.binary(max_size=140))
def test_a_request_id_is_safe_in_every_header_and_every_log(received: bytes) -> None:
    kept = request_id_of(received)
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,128}", kept)
    if re.fullmatch(rb"[A-Za-z0-9._-]{8,128}", received):
        assert kept == received.decode()


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent"])
async def test_a_header_that_comes_twice_says_nothing(name: bytes) -> None:
    told: list[dict[str, str]] = []

    async def app(*_: object) -> None:
        told.append(tracing.outgoing_headers())

    value = {b"x-request-id": b"request-of-a-test", b"traceparent": PARENT.encode()}[name]
    for headers in ([(name, value)], [(name, value), (name, value)]):
        await RequestContext(app)({"type": "http", "headers": headers}, None, None)  # type: ignore[arg-type] # unused
    once, twice = ("".join(headers.values()) for headers in told)
    word = value.decode() if name == b"x-request-id" else TRACE
    assert word in once
    assert word not in twice
