"""What the README says to write does what it says."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI
from redis.asyncio import Redis

from service_kit.testing import RedisServer, TestIssuer


@asynccontextmanager
async def keys_of(issuer: TestIssuer) -> AsyncIterator[str]:
    """The address of the issuer's keys."""
    app = FastAPI()
    app.get("/jwks.json")(issuer.fetch_keys)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks.json"
        server.should_exit = True
        await task


async def test_an_app_with_the_parts_of_the_readme_knows_its_callers(
    issuer: TestIssuer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Redis.from_url(redis_server.url) as store:
        await store.set("auth:epoch", "first")
        await store.xadd("auth:revocations", {"kind": "start"})
    async with keys_of(issuer) as keys:
        monkeypatch.setenv("PUBLIC_URL", issuer.url)
        monkeypatch.setenv("JWKS_URL", keys)
        monkeypatch.setenv("REVOCATIONS_REDIS_URL", redis_server.url)
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
        readme = (Path(__file__).parents[1] / "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
        known: dict[str, Any] = {
            "AsyncIterator": AsyncIterator,
            "asynccontextmanager": asynccontextmanager,
            "Annotated": Annotated,
            "Depends": Depends,
            "FastAPI": FastAPI,
        }
        exec(code, known)
        app: FastAPI = known["app"]
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
        ):
            token = issuer.token(sub="ada")
            answer = await client.get("/v1/orders", headers={"Authorization": f"Bearer {token}"})
            assert answer.json() == "ada"
            refused = (await client.get("/v1/orders")).json()
            assert refused["code"] == "not_authenticated"
            assert refused["request_id"]
