"""A service put together from the kit: two ports, and work that ends before what it works with is closed."""

import asyncio
import time
from pathlib import Path

import httpx
from fastapi import APIRouter, Request

from service_kit.application import internal_api, public_api, serve_both
from service_kit.authenticator import Authenticator
from service_kit.settings import ServiceSettings, VerifierSettings
from service_kit.testing import TestIssuer

router = APIRouter()


@router.get("/hello")
async def hello(request: Request) -> bool:
    return request.app.state.authenticator is not None


class Settings(ServiceSettings, VerifierSettings):
    pass


async def test_a_service_has_two_ports_and_closes_its_parts_when_its_work_has_ended(
    issuer: TestIssuer, tmp_path: Path
) -> None:
    settings = Settings(
        secrets_dir=tmp_path,
        public_url=issuer.url,
        jwks_url="http://localhost:1/jwks.json",
        revocations_redis_url="redis://localhost:1/0",
    )
    authenticator = Authenticator(settings, "example", fetch_keys=issuer.fetch_keys)
    authenticator.revocations.prove(time.time())
    happened: list[str] = []
    works = asyncio.Event()

    async def work() -> None:
        works.set()
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("work ended")

    async def close() -> None:
        happened.append("closed")

    public = public_api("Example", "1.0", (router,))
    internal = internal_api("Example", "1.0", {"tokens": authenticator.check})
    app = serve_both(public, internal, settings, authenticator, work, close=close)
    async with public.router.lifespan_context(public), asyncio.timeout(10):
        await works.wait()
        for path, ports in (("/hello", (200, 404)), ("/healthz", (404, 200)), ("/metrics", (404, 200))):
            for port, status in zip((8000, 9000), ports, strict=True):
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url=f"http://service:{port}"
                ) as client:
                    assert (await client.get(path)).status_code == status, (path, port)
    assert happened == ["work ended", "closed"]
