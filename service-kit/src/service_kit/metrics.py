"""Prometheus metrics that add up across the workers of one service."""

import asyncio
import time
from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import Scope

from service_kit.observer import RequestObserver

_requests = Histogram(
    "http_request_duration_seconds",
    "Time from the request's head to the end of its answer.",
    ("route", "method", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def router(*more: CollectorRegistry) -> APIRouter:
    """`/metrics`, all workers added up; `more` are registries that a service keeps beside the common one."""
    routes = APIRouter()
    shared = _Shared(lambda: b"".join(generate_latest(registry) for registry in (_registry(), *more)))

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(await shared.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


class _Shared:
    """A text that takes long to make: it is never older than the question, and making it has a fifth of a core at most,
    however many ask."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None  # for all who ask until it begins
        self._not_before = 0.0

    async def text(self) -> bytes:
        if self._next is None:
            self._next = asyncio.create_task(self._made())
        return await asyncio.shield(self._next)

    async def _made(self) -> bytes:
        async with self._making:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            self._next = None
            began = time.monotonic()
            try:
                return await asyncio.to_thread(self._make)
            finally:
                now = time.monotonic()
                self._not_before = now + 4 * (now - began)


def _registry() -> CollectorRegistry:
    # The value class is chosen at import, by whether gunicorn_options named a folder for the workers' files.
    if values.ValueClass is values.MutexValue:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


class RequestMetrics(RequestObserver):
    """Duration of each request by route template, method and status."""

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, never the path: a label for each id would grow without end.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        _requests.labels(route, method, str(status)).observe(seconds)
