"""The parts list: what the service is made of, and how the parts are put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from example_service import __version__
from example_service.config import Settings
from example_service.items import router as items
from service_kit import background, exception_handlers, health, logs, metrics
from service_kit.addresses import ClientAddress
from service_kit.authenticator import Authenticator
from service_kit.port_dispatch import PortDispatch
from service_kit.settings import load
from service_kit.tracing import RequestContext

NAME: Final = "example-service"
ROUTERS: Final = (items.router,)


def create_app(settings: Settings, authenticator: Authenticator) -> ASGIApp:
    """The service on its two binds."""
    address_rule = ClientAddress(settings.gateway_peers)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with authenticator.running(), background.running(address_rule.run):
            yield

    public, internal = public_api(lifespan), internal_api(authenticator)
    for app in (public, internal):
        app.state.authenticator = authenticator
        app.state.client_address = address_rule
    return RequestContext(logs.AccessLogMiddleware(PortDispatch(public, internal, settings.internal_port)))


def public_api(lifespan: object = None) -> FastAPI:
    """What the gateway may forward to; its OpenAPI document is the service's contract."""
    app = FastAPI(
        title="Example service",
        version=__version__,
        lifespan=lifespan,  # type: ignore[arg-type] # None while the contract is written
        docs_url=None,
        redoc_url=None,
    )
    exception_handlers.install(app)
    app.add_middleware(metrics.RequestMetrics)
    for router in ROUTERS:
        app.include_router(router)
    return app


def internal_api(authenticator: Authenticator) -> FastAPI:
    """What only the other services and the operators reach."""
    app = FastAPI(title="Example service, internal", version=__version__, openapi_url=None)
    exception_handlers.install(app)
    app.add_middleware(metrics.RequestMetrics)
    app.include_router(metrics.router())
    app.include_router(health.router({"tokens": authenticator.check}))
    return app


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    settings = load(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, Authenticator(settings, NAME))
