"""What every service is made of: an API on each of its two ports, and the work beside the requests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from service_kit import background, exception_handlers, health, logs, metrics
from service_kit.addresses import ClientAddress
from service_kit.authenticator import Authenticator
from service_kit.port_dispatch import PortDispatch
from service_kit.problems import ApiError
from service_kit.settings import ServiceSettings
from service_kit.tracing import RequestContext


def public_api(
    title: str,
    version: str,
    routers: Iterable[APIRouter],
    *everywhere: type[ApiError],
    schemas: Mapping[str, Any] | None = None,
    **described: Any,
) -> FastAPI:
    """What the gateway may forward to; its OpenAPI document is the service's contract. `everywhere` and `schemas` are
    those of `exception_handlers.install`."""
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None, **described)
    return _complete(app, routers, *everywhere, schemas=schemas)


def internal_api(
    title: str, version: str, checks: Mapping[str, health.Check], *routers: APIRouter, deadline: float = 1.0
) -> FastAPI:
    """What only other services and operators reach; `checks` and `deadline` are those of `health.router`."""
    app = FastAPI(title=f"{title}, internal", version=version, openapi_url=None)
    return _complete(app, (*routers, metrics.router(), health.router(checks, deadline)))


def serve_both(
    public: FastAPI,
    internal: FastAPI,
    settings: ServiceSettings,
    authenticator: Authenticator,
    *works: background.Work,
    close: Callable[[], Awaitable[None]] | None = None,
) -> ASGIApp:
    """The service on its two ports. The works run beside the requests; `close` comes after the last of both."""
    address_rule = ClientAddress(settings.gateway_peers)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with authenticator.running(), background.running(address_rule.run, *works):
                yield
        finally:
            if close is not None:
                await close()

    public.router.lifespan_context = lifespan
    for app in (public, internal):
        app.state.authenticator = authenticator
        app.state.client_address = address_rule
    return RequestContext(logs.AccessLogMiddleware(PortDispatch(public, internal, settings.internal_port)))


def _complete(
    app: FastAPI, routers: Iterable[APIRouter], *everywhere: type[ApiError], **install: Any
) -> FastAPI:
    exception_handlers.install(app, *everywhere, **install)
    app.add_middleware(metrics.RequestMetrics)
    for router in routers:
        app.include_router(router)
    return app
