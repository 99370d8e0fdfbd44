"""The parts list: what the gateway consists of, and how its own pages and its internal bind are made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp

from gateway.callers import Callers
from gateway.config import Settings
from gateway.front import Front
from gateway.journal import Journal
from gateway.leases import Leases
from gateway.limits import Addresses, Limits
from gateway.pipeline import Pipeline
from gateway.routes import Defaults, Route, Routes, load
from service_kit import health, logs, metrics
from service_kit.addresses import ClientAddress
from service_kit.identity import Identity
from service_kit.settings import load as load_settings

NAME = "gateway"
OWN_ROUTES = tuple(
    Route(service=NAME, name=name, path=path, methods=frozenset(("GET",)), source="gateway", public=True)
    for name, path in (("home", "/"), ("docs", "/docs"))
)


def create_app(settings: Settings, identity: Identity) -> ASGIApp:
    """What uvicorn loads: the internal bind's application, whose lifespan gives every connection its front."""
    defaults = Defaults(settings.first_byte_seconds, settings.idle_seconds, settings.body_max_bytes)
    routes = load(settings.routes_dir, OWN_ROUTES, defaults)
    proxies = ClientAddress(settings.trusted_proxies) if settings.trusted_proxies else None
    limits = Limits(Addresses(settings.address_rate, settings.address_burst), Leases())
    pipeline = Pipeline(routes, proxies, Callers(identity.verifier), limits)
    journal = Journal(settings.access_log_share)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Front]]:
        front = Front(settings, pipeline, identity.keys, journal, portal(routes))
        running = [front.run()] + ([proxies.run()] if proxies else [])
        async with identity.running():
            tasks = [asyncio.create_task(work) for work in running]
            try:
                yield {"front": front}
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await front.stop()

    async def knows_callers() -> str | None:
        return identity.ready()

    internal = FastAPI(title="Gateway, internal", openapi_url=None, lifespan=lifespan)
    internal.include_router(health.router({"identity": knows_callers}))
    internal.include_router(metrics.router())
    return internal


def portal(routes: Routes) -> ASGIApp:
    """The gateway's own public pages."""
    rows = "".join(
        f"<tr><td>{escape(' '.join(sorted(route.methods)))}<td><code>{escape(route.path)}</code>"
        f"<td>{escape(route.service)}<td>{'public' if route.public else 'signed in'}"
        for route in sorted(routes, key=lambda route: route.path)
        if route.service != NAME
    )
    page = (
        "<!doctype html><meta charset=utf-8><title>Gatehouse</title>"
        "<style>body{font:16px system-ui;margin:2rem auto;max-width:60rem}td{padding:.2rem 1rem .2rem 0}</style>"
        f"<h1>Gatehouse</h1><p>What this gateway forwards:</p><table>{rows}</table>"
    )
    app = FastAPI(openapi_url=None)

    @app.get("/")
    @app.get("/docs")
    def pages() -> HTMLResponse:
        return HTMLResponse(page)

    return app


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    settings = load_settings(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, Identity(settings, NAME))
