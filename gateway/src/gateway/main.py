"""The parts list: what the gateway consists of, and how its own pages and its internal bind are made."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from gateway.config import RouteSettings, Settings
from gateway.http1 import origins
from gateway.pipeline import Pipeline
from gateway.policy.authentication import Callers
from gateway.policy.rate_limits import Addresses, Limits
from gateway.policy.response_revocations import ResponseRevocations
from gateway.policy.shared_revocations import SharedRevocations
from gateway.portal.pages import OWN_ROUTES, pages
from gateway.portal.services import Documents, Health
from gateway.rate_limit.leases import LimitLeases, Nowhere
from gateway.rate_limit.redis_store import RedisLimitStore, connect
from gateway.routing.endpoints import Endpoints
from gateway.routing.route_table import RouteTable, read_table
from gateway.routing.routes import Routes
from gateway.routing.watcher import RouteWatcher
from gateway.server.access_log import AccessLog
from gateway.server.listener import Listener
from gateway.server.long_lived import LongLivedConnections
from gateway.server.metrics import KEEP_SECONDS, Metrics
from gateway.server.worker_state import WorkerState
from service_kit import background, exception_handlers, health, logs, metrics
from service_kit.addresses import ClientAddress
from service_kit.authenticator import Authenticator
from service_kit.settings import load as load_settings
from service_kit.settings import secret_value
from service_kit.tracing import RequestContext

NAME: Final = "gateway"
VERSION: Final = version(NAME)

# The table that the master has read last. A worker inherits it: one that has to be replaced while the files of a service
# cannot be used must not take out that service.
known: RouteTable | None = None
# Made by the master, before it forks: what one worker was told has ended, for the others.
shared: SharedRevocations | None = None


def create_app(
    settings: Settings,
    authenticator: Authenticator,
    known: RouteTable | None = None,
    shared: SharedRevocations | None = None,
) -> ASGIApp:
    """What uvicorn loads: the internal bind's application, whose lifespan gives every connection its front. `known` are
    the routes of services whose files cannot be used; `shared` is what the workers of this gateway share."""
    read = partial(read_routes, settings)
    proxies = ClientAddress(settings.trusted_proxies) if settings.trusted_proxies else None
    limits = Limits(Addresses(settings.address_rate, settings.address_burst), leases_of(settings))
    watch = RouteWatcher(
        settings.routes_dir,
        read,
        lambda table: state.use(table),
        settings.routes_watch_seconds,
    )

    def where(service: str) -> Endpoints:
        return settings.endpoints_of(service, watch.table.endpoints.get(service))

    response_revocations = ResponseRevocations(
        authenticator.revocations,
        settings.revoking_services,
        shared or SharedRevocations(),
    )
    callers = Callers(authenticator.verifier, response_revocations)
    public = origins.parse(settings.public_url.encode())
    pipeline = Pipeline(watch.begin(known).routes, proxies, callers, limits, public)
    portal = public_pages(lambda: watch.table, where, lambda: state.releases(), settings)
    long_lived = LongLivedConnections(authenticator.revocations, settings.socket_max_seconds)
    access_log = AccessLog(settings.access_log_share)
    checks: dict[str, health.Check] = {"identity": authenticator.check, "routes": watch.check}
    listener = None
    if settings.listen_from is not None:
        listener = Listener(settings.listen_from, list(checks.values()), settings.vanished_seconds)
        checks["listener"] = listener.check
    state = WorkerState(
        settings,
        pipeline,
        authenticator.keys,
        access_log,
        portal,
        long_lived,
        response_revocations,
        listener,
        where,
    )
    counts = Metrics(state, authenticator, watch, settings.prometheus_multiproc_dir)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, WorkerState]]:
        works: list[background.Work] = [state.run, watch.run, partial(_keep, counts), limits.leases.run]
        if proxies:
            works.append(proxies.run)
        try:
            async with authenticator.running(), background.running(*works):
                state.use(watch.table)
                yield {"worker_state": state}
        finally:
            await state.stop()
            counts.keep(leaving=True)

    return internal_pages(counts, checks, lifespan)


def leases_of(settings: Settings) -> LimitLeases:
    """Limits are counted by all workers together where there is a Redis for it, else by each alone."""
    if settings.limits_redis_url is None:
        return LimitLeases(Nowhere(), settings.workers)
    password = secret_value(settings.limits_redis_password)
    redis = connect(settings.limits_redis_url, settings.limits_redis_user, password)
    return LimitLeases(RedisLimitStore(redis), settings.workers)


def read_routes(
    settings: RouteSettings, last: RouteTable | None = None, moving: Collection[str] = ()
) -> RouteTable:
    """The table of the services' files, after the gateway's own pages."""
    return read_table(settings.routes_dir, OWN_ROUTES, settings.defaults, last, moving)


def public_pages(
    table: Callable[[], RouteTable],
    where: Callable[[str], Endpoints],
    releases: Callable[[], Mapping[str, str]],
    settings: Settings,
) -> ASGIApp:
    """The gateway's own pages on the public bind."""

    def routes() -> Routes:
        return table().routes

    def refused() -> dict[str, str]:
        return {name: refusal.overlaps for name, refusal in table().refused.items()}

    documents = Documents(routes, lambda service: where(service).public, settings.document_seconds)
    states = Health(routes, lambda service: where(service).internal)
    return RequestContext(pages(routes, documents, states, VERSION, refused, releases))


def internal_pages(counts: Metrics, checks: Mapping[str, health.Check], lifespan: object = None) -> FastAPI:
    """What only operators reach."""
    app = FastAPI(title="Gateway, internal", version=VERSION, openapi_url=None, lifespan=lifespan)  # type: ignore[arg-type] # any context manager does
    exception_handlers.install(app)
    app.include_router(health.router(checks))
    app.include_router(metrics.router(counts.registry))
    return app


async def _keep(counts: Metrics) -> None:
    while True:
        counts.keep()
        await asyncio.sleep(KEEP_SECONDS)


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    settings = load_settings(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, Authenticator(settings, NAME), known, shared)
