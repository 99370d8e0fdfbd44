"""A gateway of one's own on loopback, a recording upstream behind it, and a raw socket in front of it."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from gateway import tcp
from gateway.config import Settings
from gateway.main import create_app
from gateway.server.client_connection import ClientConnection
from service_kit.authenticator import Authenticator
from service_kit.jwks import KeyCache
from service_kit.revocations import Revocations
from service_kit.testing import TestIssuer
from service_kit.tokens import Caller, Verifier

ROUTES = """
[[routes]]
name = "echo.public"
path = "/public/*"
methods = ["GET", "POST", "HEAD"]
access = "public"

[[routes]]
name = "echo.private"
path = "/private"
methods = ["GET"]

[[routes]]
name = "echo.scoped"
path = "/scoped"
methods = ["GET"]
scopes = ["things:read"]

[[routes]]
name = "echo.socket"
path = "/socket"
methods = ["GET"]
websocket = true
"""


class NothingRevoked:
    def check(self, caller: Caller, now: float) -> None:
        """Nobody's session ended."""


class Upstream:
    """Answers every request with what it was told to, and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.closes = 0  # so many requests get no answer
        self.response: bytes | list[bytes] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.said = asyncio.Event()  # all of the answer
        self.said.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got.append(data)
                if self.closes:
                    self.closes -= 1
                    break
                if b"\r\n\r\n" in b"".join(self.got):
                    self.said.clear()
                    for piece in self.response if isinstance(self.response, list) else [self.response]:
                        writer.write(piece)
                        await turns()
                    self.said.set()
        except ConnectionError:
            pass
        finally:
            self.said.set()
            writer.close()


async def turns() -> None:
    """Lets everyone else on the loop do what can be done: what was written is a read of its own."""
    for _ in range(5):
        await asyncio.sleep(0)


class GatewayUnderTest:
    """The gateway's address, its issuer and its upstream."""

    def __init__(self, port: int, issuer: TestIssuer, upstream: Upstream, internal: ASGIApp) -> None:
        self.port = port
        self.internal = internal  # the other bind's pages
        self.issuer = issuer
        self.upstream = upstream

    async def send(self, raw: bytes, wait: float = 5.0) -> bytes:
        """Everything that comes back. Once the first answer has begun the client ends its half: the gateway closes
        when it has nothing more to say, which no silence could prove."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        got, ended = b"", False
        try:
            async with asyncio.timeout(wait):
                while data := await reader.read(65536):
                    got += data
                    if not ended and _FINAL.search(got):
                        ended = True
                        writer.write_eof()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.close()
        await self.upstream.said.wait()
        await turns()
        return got


_FINAL = re.compile(rb"(?:\A|\r\n\r\n)HTTP/1\.1 [2-5].*\r\n\r\n", re.DOTALL)


@asynccontextmanager
async def running(
    folder: Path,
    revocations: str | None = None,
    upstream: Upstream | None = None,
    table: str = "",
    sends: int = 0,
    host: str = "127.0.0.1",
    **settings_too: Any,
) -> AsyncIterator[GatewayUnderTest]:
    """A gateway; with the URL of a Redis one that follows the revocations there, with a table one of more routes, with
    `sends` one whose kernel takes only about so many bytes of what a client has not read."""
    issuer = TestIssuer()
    upstream = upstream or Upstream()
    behind = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    (folder / "echo").mkdir()
    (folder / "echo" / "routes.toml").write_text(ROUTES + table)

    async def fetch() -> dict[str, Any]:
        return issuer.jwks()

    keys = KeyCache(fetch)
    await keys.refresh()
    usual: dict[str, Any] = {
        "routes_dir": folder,
        "upstreams": {"echo": f"127.0.0.1:{behind.sockets[0].getsockname()[1]}"},
        "upstream_probe": "off",
        "public_url": "http://localhost:8080",
        "jwks_url": "http://127.0.0.1:1/",
        "revocations_redis_url": revocations or "redis://127.0.0.1:1/0",
        "revocations_redis_user": "default",
    }
    settings = Settings(**usual | settings_too)
    authenticator: Any = SimpleNamespace(
        verifier=Verifier(keys, NothingRevoked(), {settings.public_url: None}),
        keys=keys,
        running=_nothing,
        check=partial(asyncio.sleep, 0),
        revocations=Revocations(60.0),
    )
    if revocations is not None:
        authenticator = Authenticator(settings, "gateway", fetch_keys=fetch)
    try:
        app = create_app(settings, authenticator)
        async with listening(app, sends, settings.vanished_seconds, host) as port:
            yield GatewayUnderTest(port, issuer, upstream, app)
    finally:
        behind.close()


@asynccontextmanager
async def listening(
    app: ASGIApp, sends: int = 0, vanished_seconds: float = 60, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """What uvicorn's Server does for the edge, without the looks it takes every tenth of a second."""
    config = Config(app, http=ClientConnection, lifespan="on", log_config=None, ws="none")
    config.load()
    lifespan = LifespanOn(config)
    await lifespan.startup()
    assert not lifespan.should_exit, "the application did not start"
    state = ServerState()
    state.default_headers = config.encoded_headers
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientConnection(config, state, lifespan.state), host, 0)
    try:
        if sends:
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sends)
        tcp.tune_listener(server.sockets[0], vanished_seconds)
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        async with asyncio.timeout(10):
            while state.connections:
                await asyncio.sleep(0.01)
        await lifespan.shutdown()


async def internal(gateway: GatewayUnderTest, path: str) -> str:
    """A page of the internal bind."""
    transport = httpx.ASGITransport(gateway.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://internal") as client:
        return (await client.get(path)).text


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayUnderTest]:
    async with running(tmp_path) as one:
        yield one
