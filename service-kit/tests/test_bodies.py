"""JSON bodies: one meaning for every reader, or 400; another type is 415; what streams is left alone."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict

from service_kit import exception_handlers, strict_json
from service_kit.bodies import JsonRoute

JSON = {"content-type": "application/json"}
CANARY = "canary-3f1c9d"


class Thing(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: Any


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app, router = FastAPI(), APIRouter(route_class=JsonRoute)
    exception_handlers.install(app)

    @router.post("/things")
    async def included(thing: Thing) -> Any:
        return thing.name

    @app.post("/own")
    async def own(thing: Thing) -> Any:
        return thing.name

    @router.post("/optional")
    async def optional(thing: Thing | None = None) -> bool:
        return thing is not None

    @router.post("/stream")
    async def stream(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    class LargeRoute(JsonRoute):
        most_bytes = 2 * 2**20

    large = APIRouter(route_class=LargeRoute)

    @large.post("/large")
    async def large_thing(thing: Thing) -> int:
        return len(thing.name)

    async def nobody() -> None:
        raise AssertionError("asked before the body was refused")

    @router.post("/guarded", dependencies=[Depends(nobody)])
    async def guarded(thing: Thing) -> Any:
        return thing.name

    app.include_router(router)
    app.include_router(large)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"a","name":"b"}',
        b'{"name":"a","name":"a"}',
        rb'{"name":"a","n\u0061me":"b"}',
        b'{"name":{"x":1,"x":1}}',
        b'{"name":[{"deep":[{"x":1,"x":2}]}]}',
        '{"name":"a"}'.encode("utf-16"),
        '{"name":"a"}'.encode("utf-16-le"),
        '{"name":"a"}'.encode("utf-32-be"),
        b'\xef\xbb\xbf{"name":"a"}',
        b'{"name":"\xff"}',
        b'{"name":"\xed\xa0\x80"}',
        b'{"name":NaN}',
        b'{"name":[-Infinity]}',
        b'{"name":1e400}',
        rb'{"name":"\ud800"}',
        rb'{"name":"\udc00\ud800"}',
        rb'{"\ud800":1,"name":1}',
        b'{"name":9007199254740993}',
        b'{"name":-9007199254740993}',
        b'{"name":' + b"9" * 5000 + b"}",
        b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name":1}{}',
        b"{'name':1}",
        b'{"name":"\x00"}',
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("path", ["/things", "/own"])
async def test_a_body_that_two_readers_could_read_in_two_ways_is_refused(
    http: httpx.AsyncClient, path: str, body: bytes
) -> None:
    answer = await http.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "position"), [(b'{"email":', 9), (b'{"a" 1}', 5), (b"[1,]", 3), (b"x\xff", 1)]
)
async def test_a_broken_body_is_told_where_it_breaks(
    http: httpx.AsyncClient, body: bytes, position: int
) -> None:
    problem = (await http.post("/things", content=body, headers=JSON)).json()
    assert (problem["code"], problem["position"]) == ("invalid_json", position)
    assert str(position) in problem["detail"]


@pytest.mark.parametrize("body", ['{"%s":1,"%s":2}', '{"name":"\\%s"}', '{"name":%s}', '"%s'])
async def test_nothing_of_a_refused_body_comes_back(http: httpx.AsyncClient, body: str) -> None:
    answer = await http.post("/things", content=body.replace("%s", CANARY), headers=JSON)
    assert answer.status_code == 400
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"name":"\xc3\xa9"}', "é"),
        (rb'{"name":"\ud83d\ude00"}', "😀"),
        (b'{"name":9007199254740991}', 2**53 - 1),
        (b'{"name":-9007199254740991}', 1 - 2**53),
        (b'{"name":[1.5,true,null,{}]}', [1.5, True, None, {}]),
        (b'\r\n{ "name" : [{"a":1},{"a":1}] }\t', [{"a": 1}, {"a": 1}]),
    ],
)
async def test_every_other_json_is_read_as_ever(http: httpx.AsyncClient, body: bytes, name: Any) -> None:
    for media_type in ("application/json", "application/json; charset=utf-8", "application/merge-patch+json"):
        answer = await http.post("/things", content=body, headers={"content-type": media_type})
        assert (answer.status_code, answer.json()) == (200, name)


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "image/png", "x"]
)
async def test_a_body_of_another_type_is_told_which_to_send(http: httpx.AsyncClient, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = await http.post("/things", content=b'{"name":1}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in answer.json()["detail"]


async def test_a_body_that_may_be_left_out_needs_no_type(http: httpx.AsyncClient) -> None:
    assert (await http.post("/optional")).json() is False
    missing = await http.post("/things", headers=JSON)
    assert (missing.status_code, missing.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["/things", "/own", "/guarded"])
async def test_a_body_larger_than_the_route_takes_is_refused_before_it_is_there(
    http: httpx.AsyncClient, path: str
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * 2**20:
            sent += 2**16
            yield b" " * 2**16

    answer = await http.post(path, content=endless(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large"), answer.text
    assert answer.json()["detail"] == "The route takes at most 1048576 bytes."
    assert sent <= 2**20 + 2**16


async def test_a_body_as_large_as_the_route_takes_is_read(http: httpx.AsyncClient) -> None:
    body = b'{"name":"%s"}' % (b"a" * (2**20 - len(b'{"name":""}')))
    assert (await http.post("/things", content=body, headers=JSON)).status_code == 200
    larger = await http.post("/large", content=body + b" ", headers=JSON)
    assert larger.status_code == 200, "a route may take more"


async def test_a_route_that_streams_its_body_takes_any_bytes(http: httpx.AsyncClient) -> None:
    answer = await http.post("/stream", content=b'{"a":1,"a":2}', headers=JSON)
    assert (answer.status_code, answer.json()) == (200, 13)


def test_a_router_that_would_read_json_loosely_stops_the_start() -> None:
    app, loose = FastAPI(), APIRouter()
    exception_handlers.install(app)

    @loose.post("/things")
    async def add(thing: Thing) -> None: ...

    with pytest.raises(TypeError, match="/things reads a body"):
        app.include_router(loose)


def test_what_is_read_strictly_is_what_python_reads() -> None:
    value = {"a": [1, -2, 0.5, 1e300, "é\u2028\\", {"b": None}], "": False}
    for ascii_only in (True, False):
        assert strict_json.decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
