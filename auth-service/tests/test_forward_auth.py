"""deploy/forward-auth with the real nginx and Caddy: admitted, refused, undecided, and no forged identity."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from conftest import Service
from people import People
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.testing import free_port

EXAMPLES = Path(__file__).parents[2] / "deploy" / "forward-auth"
INGRESSES = ["nginx", "caddy"]


async def tell_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """The service behind the ingress: it answers with the identity that it was told, read as WSGI and CGI read it."""
    fields = Request(scope).headers.items()
    headers = {name: value for name, value in fields if name.replace("_", "-").startswith("x-auth-")}
    await JSONResponse(headers)(scope, receive, send)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


class Auth:
    """The service on a real port, or gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.away = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.away:
            await JSONResponse({}, 503, {"retry-after": "1"})(scope, receive, send)
        else:
            await self._app({**scope, "server": ("127.0.0.1", 8000)}, receive, send)


def configured(name: str, folder: Path, ports: dict[str, int]) -> list[str]:
    """The example with our ports and nothing else changed, and the command that runs it."""
    example = (EXAMPLES / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[name]).read_text()
    for port, ours in ports.items():
        assert f"127.0.0.1:{port}" in example
        example = example.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
    file = folder / name
    if name == "caddy":
        file.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{example}")
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
    paths = "".join(
        f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; {paths}\n{example} }}"
    )
    return ["nginx", "-p", str(folder), "-c", str(file)]


@pytest.fixture(params=INGRESSES)
async def ingress(
    request: pytest.FixtureRequest, service: Service, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, Auth]]:
    if shutil.which(request.param) is None:
        assert not os.environ.get("CI"), f"{request.param} must be installed where CI is set"
        pytest.skip(f"{request.param} is not installed")
    auth, port = Auth(service.app), free_port()
    async with served(auth) as auth_port, served(tell_headers) as service_port:
        command = configured(request.param, tmp_path, {"8088": port, "8000": auth_port, "8080": service_port})
        environment = {**os.environ, "HOME": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.DEVNULL)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await until_listening(client)
                yield client, auth
        finally:
            process.terminate()
            await process.wait()


async def until_listening(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                await client.get("/")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def test_an_ingress_admits_a_good_token_and_nobody_elses_words(
    ingress: tuple[httpx.AsyncClient, Auth], service: Service, people: People
) -> None:
    client, _ = ingress
    token = (await service.sign_in())["access_token"]
    forged = {"x-auth-subject": "somebody", "x-auth-roles": "admin", "x-auth-session": "another"}
    forged |= dict.fromkeys(("x_auth_roles", "x-auth_roles", "x_auth-roles"), "admin")
    response = await client.post(
        "/orders?a=b", content=b"body", headers={"authorization": f"Bearer {token}", **forged}
    )
    assert response.status_code == 200
    told: dict[str, Any] = response.json()
    assert told["x-auth-subject"] == people["ada@example.com"]["id"]
    assert told["x-auth-scope"] == "*"
    assert not told.get("x-auth-roles")
    assert not [name for name in told if "_" in name]
    assert told.get("x-auth-session") in (None, service.session_of(token))


async def test_an_ingress_passes_a_refusal_on_and_says_so_when_nothing_can_be_decided(
    ingress: tuple[httpx.AsyncClient, Auth], service: Service
) -> None:
    client, auth = ingress
    nobody = await client.get("/orders")
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    grant = await service.sign_in()
    headers = {"authorization": f"Bearer {grant['access_token']}"}
    assert (await client.get("/orders", headers=headers)).status_code == 200
    await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await service.until_refused(grant["access_token"], "session_revoked")
    assert (await client.get("/orders", headers=headers)).status_code == 401
    auth.away = True
    undecided = await client.get("/orders", headers=headers)
    assert (undecided.status_code, undecided.headers["retry-after"]) == (503, "1")
