"""Generated requests and answers, split anywhere: whatever crosses means to others what it meant to the gateway.

The first reader is the gateway itself, over sockets; the others are h11 and both of aiohttp's parsers.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httptools
import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http1.asserted_headers import is_asserted
from gateway.upstream.response import BadResponse
from gateway.upstream.response import read_response as answer_head
from tests.conftest import GatewayUnderTest, Upstream, running
from tests.process import reset
from tests.wire import (
    Message,
    Response,
    answer_by_h11,
    connection_tokens,
    request_by_aiohttp,
    requests_by_h11,
    values,
)

SECONDS = 30.0  # what takes longer hangs


class ServiceFolder:
    """A gateway and its upstream on a loop that runs only while an example does."""

    def __init__(self, runner: asyncio.Runner, gateway: GatewayUnderTest) -> None:
        self._runner = runner
        self.gateway = gateway
        self.crashes: list[str] = []
        runner.get_loop().set_exception_handler(lambda _, context: self.crashes.append(repr(context)))

    def run(self, what: Coroutine[Any, Any, None]) -> None:
        self.crashes.clear()
        self._runner.run(asyncio.wait_for(what, SECONDS))
        assert self.crashes == []


@contextlib.contextmanager
def service_folder(folder: Path, upstream: Upstream) -> Iterator[ServiceFolder]:
    with asyncio.Runner() as runner:
        # Every request comes from one address.
        gateway = running(folder, upstream=upstream, address_rate=0)
        try:
            yield ServiceFolder(runner, runner.run(gateway.__aenter__()))
        finally:
            runner.run(gateway.__aexit__(None, None, None))


@asynccontextmanager
async def connected(
    gateway: GatewayUnderTest,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def write_in_pieces(writer: asyncio.StreamWriter, raw: bytes, cuts: list[int]) -> None:
    """Each piece is a read of its own: whoever reads is on the same loop, and gets its turns in between."""
    places = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
    for start, end in itertools.pairwise(places):
        writer.write(raw[start:end])
        for _ in range(3):
            await asyncio.sleep(0)


async def read_all(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What comes until the end, and whether the end is a clean one."""
    got = b""
    try:
        while data := await reader.read(65536):
            got += data
    except ConnectionResetError:
        return got, False
    return got, True


# The grammar: mostly proper messages, of which some are then spoilt at one place.

_VISIBLE = bytes(range(0x21, 0x7F))
_text = st.lists(
    st.sampled_from([*(bytes([b]) for b in _VISIBLE), b" ", b"\t", b"\xe9", b"\xff"]), max_size=12
).map(lambda found: b"".join(found).strip(b" \t"))
_segment = st.lists(
    st.sampled_from(
        [b"a", b"Z", b"7", b"-", b".x", b"~", b"%20", b"%C3%A9", b"!", b"$&'", b"(*)", b"+,=", b":@"]
    ),
    min_size=1,
    max_size=4,
).map(b"".join)
_query = st.lists(
    st.sampled_from(
        [b"a", b"=", b"&", b"%2F", b"%00", b"..", b"/", b"?", b"//", b";", b"'", b"[", b'"', b"|", b"\\"]
    ),
    max_size=6,
).map(b"".join)
_path = st.lists(_segment, min_size=1, max_size=3).map(lambda segments: b"/public/" + b"/".join(segments))
_origin_form = st.builds(
    lambda path, query: path + query, _path, st.one_of(st.just(b""), _query.map(b"?".__add__))
)
_target = st.one_of(
    _origin_form, _origin_form, _origin_form, _origin_form.map(b"http://other.example:81".__add__)
)
_space = st.sampled_from([b" ", b" ", b" ", b"", b"\t", b"  "])
_field = st.builds(
    lambda name, before, value, after: name + b":" + before + value + after,
    st.sampled_from(
        b"Accept accept-language Cookie X-Thing x-a!#$%&'*+.^`|~9 If-Match Range Content-Type Prefer X-Request-Id "
        b"X-User-Id X-Forwarded-For Forwarded X-Real-IP Keep-Alive TE Trailer Authorization".split()
    ),
    _space,
    _text,
    _space,
)
_content = st.binary(max_size=40)


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"000%X"])
    extension = st.sampled_from([b"", b"", b"", b";a=b", b';a="b;c"'])
    body = b""
    for chunk in draw(st.lists(_content.filter(bool), max_size=4)):
        body += draw(sizes) % len(chunk) + draw(extension) + b"\r\n" + chunk + b"\r\n"
    trailers = draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]))
    return body + draw(st.sampled_from([b"0", b"00"])) + draw(extension) + b"\r\n" + trailers + b"\r\n"


_SPOILERS = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"_",
        b"#",
        b"%",
        b"/",
        b"\x0b",
        b"\x7f",
        b"\x80",
    ),
    *(
        b"0",
        b"1",
        b"+",
        b"-",
        b"x",
        b"HTTP/1.0",
        b"\r\n ",
        b"\r\n\r\n",
        b"Content-Length: 1\r\n",
        b"\r\nHost: b",
    ),
    *(b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: close", b", chunked", b"http://"),
]


@st.composite
def spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    """The same bytes with something put in, left out, replaced or said twice."""
    at = draw(st.integers(0, len(raw)))
    until = min(len(raw), at + draw(st.integers(0, 8)))
    how = draw(st.sampled_from(["put in", "put in", "replace", "leave out", "twice", "cut"]))
    if how == "cut":
        return raw[:at]
    middle = {"leave out": b"", "twice": raw[at:until] * 2}.get(how)
    if middle is None:
        middle = draw(st.sampled_from(_SPOILERS)) + (raw[at:until] if how == "put in" else b"")
    return raw[:at] + middle + raw[until:]


@st.composite
def a_request(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"POST", b"POST", b"HEAD", b"PUT", b"OPTIONS"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 7 + [b"HTTP/1.0"]))
    headers = [b"Host: localhost", *draw(st.lists(_field, max_size=4))]
    headers += draw(
        st.sampled_from(
            [
                *([[]] * 4),
                [b"Connection: close"],
                [b"Connection: keep-alive"],
                [b"Connection: X-Thing, keep-alive"],
                [b"Connection:\tclose , X-Thing"],
                [b"Connection: upgrade", b"Upgrade: h2c"],
                [b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"],
            ]
        )
    )
    body = b""
    framing = draw(st.sampled_from(["none", "length", "chunked"])) if method in (b"POST", b"PUT") else "none"
    if framing == "length":
        body = draw(_content)
        headers.append(b"content-length: %d" % len(body))
    elif framing == "chunked":
        body = draw(chunked())
        headers.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"])))
    if draw(st.integers(0, 9)) == 0:
        headers.append(b"Expect: 100-continue")
    head = [method + b" " + draw(_target) + b" " + version, *draw(st.permutations(headers))]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


_cuts = st.lists(st.integers(0, 2000), max_size=6)


@st.composite
def request_streams(draw: st.DrawFn) -> bytes:
    requests = draw(st.lists(a_request(), min_size=1, max_size=3))
    if draw(st.booleans()):  # as clients do: the same fields with every request, or the same request
        line, end, rest = requests[-1].partition(b"\r\n")
        path = draw(st.sampled_from([b"/public/again", b"/public/"]))
        requests.append(line.replace(b"/public/", path) + end + rest)
    raw = b"".join(requests)
    return draw(spoilt(raw)) if draw(st.booleans()) else raw


class Recorder(Upstream):
    """Reads requests with h11, and says in each answer which one it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Message] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = b""
        try:
            while data := await reader.read(65536):
                got += data
                for raw, message in requests_by_h11(got):
                    got = got[len(raw) :]
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nX-Seen: %d\r\nContent-Length: 2\r\n\r\n" % len(self.seen)
                    )
                    writer.write(b"" if message.line[0] == b"HEAD" else b"ok")
                    self.seen.append(message)
        except ConnectionError:
            pass
        finally:
            writer.close()


_NOT_PASSED = frozenset(
    b"host connection content-length transfer-encoding expect upgrade keep-alive te trailer forwarded x-real-ip "
    b"x-request-id traceparent via".split()
)
_OURS = frozenset(b"x-forwarded-for x-forwarded-proto x-forwarded-host".split())


def meaning(message: Message) -> tuple[object, ...]:
    """What has to be the same on both sides of the gateway."""
    method, target = message.line
    if not target.startswith(b"/"):
        target = b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    named = connection_tokens(message)
    passed = [
        (name, value)
        for name, value in message.headers
        if name not in _NOT_PASSED | _OURS | named and not is_asserted(name)
    ]
    # The one Authorization crosses behind the others.
    return method, target, sorted(passed), message.body


def may_be_followed(message: Message, raw: bytes) -> bool:
    """Whether the connection goes on after this request."""
    tokens = connection_tokens(message)
    if b" HTTP/1.0\r\n" in raw.removeprefix(b"\r\n").partition(b"\n")[0] + b"\n":
        return b"keep-alive" in tokens and b"close" not in tokens
    return b"close" not in tokens


async def check_requests(gateway: GatewayUnderTest, raw: bytes, cuts: list[int]) -> bool:
    """Whether one of the requests reached the upstream; each that did has to be the one that others read."""
    recorder = gateway.upstream
    assert isinstance(recorder, Recorder)
    recorder.seen.clear()
    async with connected(gateway) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            await write_in_pieces(writer, raw, cuts)
            writer.write_eof()
        got, _ = await read_all(reader)

    expected = list(requests_by_h11(raw))
    responded = 0
    number = 0
    while got:
        # Where h11 reads no request it may have been a HEAD, whose refusal has no body.
        methods = [expected[number][1].line[0]] if number < len(expected) else [b"GET", b"HEAD"]
        found = [answer_by_h11(got, method, ended=False) for method in methods]
        response = next((one for one in found if one is not None and one.message.complete), None)
        assert response is not None, got
        status = int(response.message.line[0])
        seen = values(response.message, b"x-seen")
        if seen:
            assert int(seen[0]) == responded
            assert number < len(expected), "h11 does not read this request"
            assert all(may_be_followed(message, one) for one, message in expected[:number])
            assert meaning(expected[number][1]) == meaning(recorder.seen[responded])
            one = expected[number][0]
            for other in (HttpRequestParserPy, HttpRequestParser):
                by_other = await request_by_aiohttp(one, other)
                assert by_other is not None, (other, one)
                assert meaning(by_other) == meaning(recorder.seen[responded]), other
            responded += 1
        elif status == 204:  # to an OPTIONS
            assert values(response.message, b"allow") == [b"GET, HEAD, OPTIONS, POST"]
        else:
            assert 400 <= status < 500 or status in (501, 508), got
            assert values(response.message, b"content-type") == [b"application/problem+json"]
        number += 1
        got = response.rest
    assert responded == len(recorder.seen), "one crossed without being answered"
    return bool(responded)


def explore(
    examples: int, **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """The same examples each time where few are tried, others each time where many are; both say how to repeat one."""
    bounded = settings(
        max_examples=examples,
        deadline=None,  # SECONDS bounds each example
        derandomize=examples < 5000,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return lambda test: bounded(given(**strategies)(test))


# Ten times the usual minutes on a machine with other things to do; SECONDS finds what hangs.
MANY = pytest.param(10_000, marks=[pytest.mark.endurance, pytest.mark.timeout(3000)])


@pytest.mark.parametrize("examples", [300, MANY])
def test_a_request_that_crosses_is_the_one_that_others_read(tmp_path: Path, examples: int) -> None:
    with service_folder(tmp_path, Recorder()) as here:
        tried, crossed = [], []

        @explore(examples, raw=request_streams(), cuts=_cuts)
        def check(raw: bytes, cuts: list[int]) -> None:
            async def one() -> None:
                tried.append(raw)
                if await check_requests(here.gateway, raw, cuts):
                    crossed.append(raw)

            here.run(one())

        check()
        assert len(crossed) > 0.3 * len(tried), "too few are accepted: the others prove little"


_NO_FIELDS: list[list[bytes]] = [[]] * 5


class Told(NamedTuple):
    """What an upstream answers with, and how its connection ends then."""

    method: bytes  # of the request
    raw: bytes
    proper: bool  # nothing in it is spoilt
    ending: str  # "stays", "ends" or "is lost"


@st.composite
def _response_head(draw: st.DrawFn, version: bytes, status: bytes, framing: list[bytes]) -> bytes:
    headers = draw(st.lists(_answer_field, max_size=4)) + framing
    if status[:1] != b"1":
        headers += draw(
            st.sampled_from([*_NO_FIELDS, [b"Connection: close"], [b"Connection: X-Thing, keep-alive"]])
        )
    return b"\r\n".join([version + b" " + status, *draw(st.permutations(headers))]) + b"\r\n\r\n"


_answer_field = st.builds(
    lambda name, before, value, after: name + b":" + before + value + after,
    st.sampled_from(
        b"Set-Cookie ETag X-Thing x_under Content-Type Location Vary Keep-Alive Trailer Access-Control-Allow-Origin "
        b"Strict-Transport-Security X-Request-Id Content-Encoding NEL Service-Worker-Allowed".split()
    ),
    _space,
    _text,
    _space,
)


_STATUSES = b"200 OK|200 |200|201 Created|206 Part|404 Not Found|500 Oh|204 None|304 Same".split(b"|")


@st.composite
def told(draw: st.DrawFn) -> Told:
    version = draw(st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0"]))
    raw = b""
    if version == b"HTTP/1.1":
        for status in draw(
            st.lists(st.sampled_from([b"100 Continue", b"102 Processing", b"103 Hints"]), max_size=2)
        ):
            raw += draw(_response_head(version, status, []))
    status = draw(st.sampled_from(_STATUSES))
    method = draw(st.sampled_from([b"GET", b"GET", b"HEAD"]))
    ending = draw(st.sampled_from(["stays", "stays", "ends", "is lost"]))
    body, framing = draw(_content), []
    if status[:3] in (b"204", b"304"):
        body = b""
    elif version == b"HTTP/1.1" and draw(st.booleans()):
        body, framing = draw(chunked()), [b"Transfer-Encoding: chunked"]
    elif draw(st.integers(0, 3)):
        framing = [b"Content-Length: %d" % len(body)]
    else:
        ending = "ends"
    raw += draw(_response_head(version, status, framing)) + (b"" if method == b"HEAD" else body)
    if draw(st.booleans()):
        return Told(method, raw, True, ending)
    spoiled = draw(st.one_of(spoilt(raw), spoilt(raw), st.sampled_from(_SPOILERS).map(raw.__add__)))
    return Told(method, spoiled, False, draw(st.sampled_from(["ends", "is lost"])))


class Teller(Upstream):
    """Answers /public/told with what it was told to, anything else with its mark."""

    MARK = b"HTTP/1.1 200 OK\r\nX-Mark: yes\r\nContent-Length: 4\r\n\r\nmark"

    def __init__(self) -> None:
        super().__init__()
        self.told = Told(b"GET", b"", True, "stays")
        self.cuts: list[int] = []
        self.has_told = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b" /public/told " not in head:
                    writer.write(self.MARK)
                    continue
                await write_in_pieces(writer, self.told.raw, self.cuts)
                self.has_told.set()
                if self.told.ending == "is lost":
                    reset(writer)
                if self.told.ending != "stays":
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the gateway was quicker
        finally:
            self.has_told.set()
            writer.close()


_NOT_ANSWERED = frozenset(
    b"connection content-length transfer-encoding keep-alive trailer upgrade "
    b"strict-transport-security x-content-type-options x-request-id "
    b"nel report-to service-worker-allowed clear-site-data alt-svc expect-ct public-key-pins".split()
)


def told_meaning(message: Message) -> list[Any]:
    dropped = _NOT_ANSWERED | connection_tokens(message)
    passed = [
        (name, value)
        for name, value in message.headers
        if name not in dropped and not name.startswith(b"access-control-")
    ]
    return [message.line, passed, message.body]


def without_added_date(passed: list[tuple[bytes, bytes]], told: Message) -> list[tuple[bytes, bytes]]:
    """Without the one that the gateway adds where none came."""
    if values(told, b"date") and b"date" not in connection_tokens(told):
        return passed
    [added] = [field for field in passed if field[0] == b"date"]
    return [field for field in passed if field != added]


def is_refusal(message: Message) -> bool:
    return message.line == (b"502",) and values(message, b"content-type") == [b"application/problem+json"]


async def check_answers(gateway: GatewayUnderTest, told: Told, cuts: list[int], version: bytes) -> bool:
    """Whether the client got the answer as it was told: else it has to know that it did not."""
    teller = gateway.upstream
    assert isinstance(teller, Teller)
    teller.told, teller.cuts = told, cuts
    teller.has_told.clear()
    following = []
    async with connected(gateway) as (reader, writer):
        writer.write(
            told.method + b" /public/told " + version + b"\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        )
        response, ended = await read_response(reader, told.method)
        await teller.has_told.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        if not ended and response is not None and b"close" not in values(response.message, b"connection"):
            writer.write(NEXT)
            following.append(await read_all(reader))
        elif not ended:
            assert await read_all(reader) == (b"", True)
    async with connected(gateway) as (reader, writer):  # also: its success keeps the breaker closed
        writer.write(NEXT)
        following.append(await read_all(reader))
    for got in following:
        assert_mark(got)
    return assert_same_or_noticed(response, told, version)


def assert_same_or_noticed(response: Response | None, told: Told, version: bytes) -> bool:
    if response is None or not response.message.complete or is_refusal(response.message):
        assert not told.proper, "it was complete, and does not pass for it"
        return False
    expected = answer_by_h11(told.raw, told.method, told.ending == "ends")
    assert expected is not None
    assert expected.message.complete, "it passes for complete, and is not"
    line, passed, body = told_meaning(response.message)
    assert [line, without_added_date(passed, expected.message), body] == told_meaning(expected.message)
    assert response.rest == b""
    if version == b"HTTP/1.1":
        hints = [one.status for one in expected.interim if one.status != 100]
        assert [one.status for one in response.interim] == hints
    return True


async def read_response(reader: asyncio.StreamReader, method: bytes) -> tuple[Response | None, bool]:
    """The answer, and whether the connection ended with it."""
    got, ended, clean = b"", False, True
    response = None
    while not (ended or (response is not None and response.message.complete)):
        try:
            data = await reader.read(65536)
        except ConnectionResetError:
            data, clean = b"", False
        got += data
        ended = not data
        response = answer_by_h11(got, method, ended and clean)
    return response, ended


NEXT = b"GET /public/next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def assert_mark(got: tuple[bytes, bool]) -> None:
    mark = answer_by_h11(got[0], b"GET", ended=got[1])
    assert mark is not None, got
    assert values(mark.message, b"x-mark") == [b"yes"], got
    assert mark.message.body == b"mark", got
    assert mark.rest == b"", got


@pytest.mark.parametrize("examples", [300, MANY])
def test_an_answer_that_ends_cleanly_is_the_one_that_was_given(tmp_path: Path, examples: int) -> None:
    with service_folder(tmp_path, Teller()) as here:
        tried, passed = [], []

        @explore(
            examples,
            told=told(),
            cuts=_cuts,
            version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]),
        )
        def check(told: Told, cuts: list[int], version: bytes) -> None:
            async def one() -> None:
                tried.append(told)
                if await check_answers(here.gateway, told, cuts, version):
                    passed.append(told)

            here.run(one())

        check()
        assert len(passed) > 0.3 * len(tried), "too few are accepted: the others prove little"


class Parsed:
    """What llhttp makes of an answer."""

    def __init__(self, raw: bytes) -> None:
        self.body = b""
        self.complete = False
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(raw)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.mark.parametrize("examples", [300, MANY])
def test_an_answer_that_is_read_by_its_length_is_the_same_to_llhttp(examples: int) -> None:
    """It is asked about chunked answers alone."""
    spoiled = []

    @explore(examples, told=told())
    def check(told: Told) -> None:
        head, end, body = told.raw.partition(b"\r\n\r\n")
        try:
            response = answer_head(head)
        except BadResponse:
            return
        if not end or response.length is None or response.status < 200 or response.status in (204, 304):
            return
        parsed = Parsed(head + end + body[: response.length])
        assert parsed.parser.get_status_code() == response.status
        assert parsed.body == body[: response.length]
        assert parsed.complete == (len(body) >= response.length)
        if not told.proper:
            spoiled.append(told)

    check()
    assert len(spoiled) > 0.005 * examples, "too few of the spoilt ones are read: this proves little"
