"""What every application answers by itself, asked over a real connection."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Literal

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from prometheus_client import REGISTRY
from pydantic import BaseModel

from service_kit import exception_handlers, logs, metrics
from service_kit.bodies import JsonRoute


def example() -> FastAPI:
    app = FastAPI()
    exception_handlers.install(app)
    app.add_middleware(metrics.RequestMetrics)

    @app.get("/things/{name}")
    async def thing(name: str) -> Response:
        return Response(f"a thing named {name}", headers={"etag": '"1"'})

    @app.post("/things")
    async def add(request: Request) -> Response:
        return Response(await request.body())

    return app


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served() as port:
        yield port


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(logs.AccessLogMiddleware(example()), lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


async def ask(port: int, head: str) -> tuple[str, dict[str, str], bytes]:
    """Status line, fields and everything that followed them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    body = await reader.read()
    writer.close()
    return status, dict(field.split(": ", 1) for field in fields if field), body


async def test_head_is_answered_as_get_without_the_content(port: int) -> None:
    head, get = [await ask(port, f"{method} /things/one HTTP/1.1") for method in ("HEAD", "GET")]
    assert get[2] == b"a thing named one"
    assert head[2] == b""
    for answer in (head, get):
        answer[1].pop("date")
    assert head[:2] == get[:2]
    assert head[1]["content-length"] == "17"


async def test_head_is_counted_as_head_under_the_template_of_its_route(port: int) -> None:
    def counted() -> float:
        labels = {"route": "/things/{name}", "method": "HEAD", "status": "200"}
        return REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) or 0

    before = counted()
    await ask(port, "HEAD /things/one HTTP/1.1")
    assert counted() == before + 1


async def test_head_where_nothing_can_be_got_is_refused_as_get_is(port: int) -> None:
    status, fields, body = await ask(port, "HEAD /things HTTP/1.1")
    assert status == "HTTP/1.1 405 Method Not Allowed"
    assert fields["allow"] == "POST"
    assert fields["content-type"] == "application/problem+json"
    assert body == b""


async def test_what_may_be_said_instead_is_told_as_callers_write_it() -> None:
    class Kind(StrEnum):
        VERIFY = "verify-address"
        RESET = "reset-password"

    app = FastAPI()
    exception_handlers.install(app)

    @app.get("/links/{kind}")
    async def link(kind: Literal[Kind.VERIFY, Kind.RESET]) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        (fault,) = (await client.get("/links/other")).json()["errors"]
    assert fault == {"field": "kind", "message": "Input should be 'verify-address' or 'reset-password'"}


def test_a_summary_says_what_happens_and_not_what_the_function_is_called() -> None:
    app = FastAPI()
    exception_handlers.install(app)

    @app.get("/one")
    async def read_one() -> None:
        """One thing: yours. Others are
        not shown."""

    @app.get("/two", summary="Its own words")
    async def read_two() -> None:
        """More. Of it."""

    one, two = (app.openapi()["paths"][path]["get"] for path in ("/one", "/two"))
    assert (one["summary"], one["description"]) == ("One thing: yours", "Others are not shown.")
    assert (two["summary"], two["description"]) == ("Its own words", "More. Of it.")


async def test_a_field_that_nobody_knows_is_named() -> None:
    app = FastAPI()
    exception_handlers.install(app)

    class Thing(BaseModel, extra="forbid"):
        name: str

    class Filter(BaseModel, extra="forbid"):
        limit: int = 50

    router = APIRouter(route_class=JsonRoute)

    @router.post("/things")
    async def add(thing: Thing) -> None: ...

    @router.get("/things")
    async def things(only: Annotated[Filter, Query()]) -> None: ...

    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        body = await client.post("/things", json={"name": "one", "admin": True})
        query = await client.get("/things?external_id=17")
        many = await client.post("/things", json={"x" * 1000 + str(n): 1 for n in range(1000)})
    advice = "There is no such field; leave it out."
    assert body.json()["detail"] == "Fix the fields listed in `errors`."
    assert body.json()["errors"] == [{"field": "admin", "message": advice}]
    assert query.json()["errors"] == [{"field": "external_id", "message": advice}]
    assert [error["field"] for error in many.json()["errors"]] == ["name"] + ["body"] * 19
    assert len(many.content) < 5000  # however much came


async def test_a_parameter_that_may_be_left_out_is_not_published_as_one_that_may_be_null() -> None:
    app = FastAPI()
    exception_handlers.install(app)

    @app.get("/things")
    async def things(
        colour: str | None = None,
        size: int | Literal["any"] | None = None,
        if_match: Annotated[str | None, Header()] = None,
    ) -> None: ...

    published = {one["name"]: one for one in app.openapi()["paths"]["/things"]["get"]["parameters"]}
    assert published["colour"]["schema"] == {"title": "Colour", "type": "string"}
    assert published["if-match"]["schema"] == {"title": "If-Match", "type": "string"}
    assert [one["type"] for one in published["size"]["schema"]["anyOf"]] == ["integer", "string"]
    assert not any(one["required"] for one in published.values())


async def test_a_request_that_breaks_off_is_no_error_of_ours(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /things HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        while not (told := [line for line in caplog.messages if "POST '/things'" in line]):
            await asyncio.sleep(0.01)
    assert " 400 " in told[0]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("path", ["/things/", "/things/a/", "/things/a//"])
async def test_nothing_is_answered_with_a_redirect(port: int, path: str) -> None:
    """It would name this address, which only the gateway can reach."""
    for method in ("GET", "POST"):
        status, fields, _ = await ask(port, f"{method} {path} HTTP/1.1")
        assert status.split()[1] in ("404", "405")
        assert "location" not in fields
