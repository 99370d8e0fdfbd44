"""What the portal asks the services: their API documents, kept for a while, and whether they are ready."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx

from gateway.portal.checks import refusal
from gateway.portal.merge import Part
from gateway.portal.references import Document
from gateway.routing.endpoints import Address, authority_of
from gateway.routing.routes import OWN, Routes
from gateway.upstream.resolver import resolve_host

_FETCH_SECONDS: Final = 2.0
_HEALTH_SECONDS: Final = 2.5  # a service itself may take two to find out
_AGAIN_SECONDS: Final = (
    5.0  # after a failure: a page that is reloaded must not wait for the same deadline each time
)
_HEALTH_KEPT_SECONDS: Final = 2.0
_DOCUMENT_BYTES_MAX: Final = 1024 * 1024
_STATE_BYTES_MAX: Final = 16 * 1024

Where = Callable[[str], Sequence[Address]]


class Documents:
    """The services' documents: fetched when asked for, kept for `lifetime`, and the old one while there is no new one."""

    def __init__(self, routes: Callable[[], Routes], where: Where, lifetime: float) -> None:
        self._routes = routes
        self._where = where
        self._lifetime = lifetime
        self._parts: dict[str, Part] = {}
        self._due: dict[str, float] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}

    async def parts(self) -> list[Part]:
        """One part for each service that has a route."""
        services = services_of(self._routes())
        now = time.monotonic()
        fetches = [self._fetch_once(name) for name in services if self._due.get(name, 0.0) <= now]
        if fetches:
            await asyncio.wait(fetches)
        return [self._parts[name] for name in services]

    def _fetch_once(self, service: str) -> asyncio.Task[None]:
        """One fetch at a time; it goes on when the one who asked for it went away."""
        task = self._fetches.get(service)
        if task is None or task.done():
            task = self._fetches[service] = asyncio.create_task(self._fetch(service))
        return task

    async def _fetch(self, service: str) -> None:
        document, trouble = await fetch_json(
            service, self._where(service), "/openapi.json", _FETCH_SECONDS, _DOCUMENT_BYTES_MAX
        )
        trouble = trouble or await asyncio.to_thread(refusal, document)
        known = self._parts.get(service)
        if trouble:
            part = Part(service, known.document if known else None, trouble)
            self._due[service] = time.monotonic() + min(self._lifetime, _AGAIN_SECONDS)
        else:
            part = Part(service, document)
            self._due[service] = time.monotonic() + self._lifetime
        if part != known:
            self._parts[service] = part


class Health:
    """Whether each service is ready, by its own word on its internal bind."""

    def __init__(self, routes: Callable[[], Routes], where: Where) -> None:
        self._routes = routes
        self._where = where
        self._known: dict[str, str] = {}
        self._due = 0.0
        self._fetching: asyncio.Task[None] | None = None

    async def states(self) -> dict[str, str]:
        """`ready`, `not ready` or `no answer`, a service each."""
        if time.monotonic() >= self._due:
            if self._fetching is None or self._fetching.done():
                self._fetching = asyncio.create_task(self._ask())
            await asyncio.wait([self._fetching])
        return self._known

    async def _ask(self) -> None:
        services = services_of(self._routes())
        states = await asyncio.gather(*(self._state(service) for service in services))
        self._known = dict(zip(services, states, strict=True))
        self._due = time.monotonic() + _HEALTH_KEPT_SECONDS

    async def _state(self, service: str) -> str:
        response, trouble = await fetch_json(
            service, self._where(service), "/readyz", _HEALTH_SECONDS, _STATE_BYTES_MAX
        )
        if not trouble and response.get("status") == "ready":
            return "ready"
        return "not ready" if trouble.startswith("it answered") else "no answer"


def services_of(routes: Routes) -> list[str]:
    """Every service that has a route."""
    return sorted({route.service for route in routes} - {OWN})


async def fetch_json(
    service: str, addresses: Sequence[Address], path: str, seconds: float, bytes_max: int
) -> tuple[Document, str]:
    """The JSON object that the first address to answer has, or why there is none."""
    trouble = "no address answered"
    try:
        async with asyncio.timeout(seconds), _client(seconds) as client:
            for host, port in addresses:
                for found in sorted(await resolve_host(host, service)):
                    try:
                        return await _get(
                            client, (found, port), authority_of(host, port), path, bytes_max
                        ), ""
                    except httpx.TransportError:
                        continue
                    except _NoDocument as reason:
                        trouble = str(reason)
    except TimeoutError:
        trouble = "it did not answer in time"
    return {}, trouble


class _NoDocument(Exception):
    """There was an answer, and not the one that was wanted."""


async def _get(
    client: httpx.AsyncClient, found: Address, authority: str, path: str, bytes_max: int
) -> Document:
    body = b""
    # In no coding: a few bytes can be the coding of more than there is memory.
    headers = {"Host": authority, "Accept-Encoding": "identity"}
    async with client.stream("GET", f"http://{authority_of(*found)}{path}", headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise _NoDocument(f"it answered {response.status_code}")
        if "content-encoding" in response.headers:
            raise _NoDocument("its document is in a coding that was not asked for")
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > bytes_max:
                raise _NoDocument("its document is too large")
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise _NoDocument("its document is not JSON that can be read") from None
    if not isinstance(document, dict):
        raise _NoDocument("its document is not a JSON object")
    return document


def _client(seconds: float) -> httpx.AsyncClient:
    # One for each of these rare calls: httpx loses a pool's place when a call is cut off while connecting.
    return httpx.AsyncClient(timeout=seconds, trust_env=False, verify=False)  # noqa: S501 - plain HTTP inside
