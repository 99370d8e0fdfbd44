"""Nobody works on for a caller who has left."""

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from service_kit.departures import arrive, while_connected


class Caller:
    """One whose request has been read, and who leaves when told to."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    @property
    def request(self) -> Request:
        return Request({"type": "http"}, self._receive)

    async def _receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_who_waits_gets_the_result_or_the_error() -> None:
    async def fail() -> None:
        raise LookupError

    assert await while_connected(Caller().request, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(LookupError):
        await while_connected(Caller().request, fail())


async def test_work_for_a_caller_who_leaves_ends_before_anything_else_is_said() -> None:
    caller, ended = Caller(), []

    async def work() -> None:
        caller.left.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(ClientDisconnect):
        await while_connected(caller.request, work())
    assert ended


async def test_a_server_that_stops_ends_the_work_too() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    request = asyncio.create_task(while_connected(Caller().request, work()))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert ended.is_set()


async def test_who_left_while_the_worker_was_busy_is_found_out_before_the_body_is_read() -> None:
    read: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await arrive()
        read.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(5):
        while not server.started:
            await asyncio.sleep(0.01)
        for _ in range(3):  # between two turns of the loop
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
        while len(read) < 3:
            await asyncio.sleep(0.01)
        server.should_exit = True
        await serving
    assert read == ["http.disconnect"] * 3
