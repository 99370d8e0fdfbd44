"""A header that is a list says the same in one line and in several; one that has one value stays as it came."""

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from service_kit import exception_handlers
from service_kit.list_headers import ListHeaders
from service_kit.preconditions import is_known
from service_kit.tracing import RequestContext, outgoing_headers


async def _seen(*lines: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])

    async def nothing() -> dict[str, object]:
        return {}

    async def send(_: object) -> None: ...

    await ListHeaders(app)({"type": "http", "headers": list(lines)}, nothing, send)
    return seen


@pytest.mark.parametrize(
    "name",
    [b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"if-match", b"if-none-match", b"connection",
     b"access-control-request-headers", b"expect", b"te", b"upgrade", b"via", b"x-forwarded-for", b"prefer"],
)  # fmt: skip
async def test_the_lines_of_a_list_are_one_where_the_first_stood(name: bytes) -> None:
    lines = ((name, b"a"), (b"x-other", b"1"), (name, b""), (name, b"b, c"))
    assert await _seen(*lines) == [(name, b"a, b, c"), (b"x-other", b"1")]


@pytest.mark.parametrize(
    "name", [b"authorization", b"content-type", b"idempotency-key", b"cookie", b"set-cookie"]
)
async def test_two_of_what_has_one_value_stay_two(name: bytes) -> None:
    lines = ((name, b"a"), (name, b"b"))
    assert await _seen(*lines) == [*lines]


async def test_a_route_that_reads_one_line_has_read_the_list() -> None:
    app = FastAPI()
    exception_handlers.install(app)

    @app.get("/things")
    async def things(request: Request) -> bool:
        return is_known(request.headers.get("if-none-match"), 5)

    headers = [("If-None-Match", '"4"'), ("If-None-Match", 'W/"5"')]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/things", headers=headers)).json() is True
        assert (await client.get("/things", headers=headers[:1])).json() is False


async def test_tracestate_is_passed_on_whole() -> None:
    told: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.update(outgoing_headers())

    async def nothing() -> dict[str, object]:
        return {}

    async def send(_: object) -> None: ...

    parent = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    headers = [(b"tracestate", b"a=1"), parent, (b"tracestate", b"b=2,c=3")]
    await RequestContext(app)({"type": "http", "headers": headers}, nothing, send)
    assert told["tracestate"] == "a=1,b=2,c=3"
