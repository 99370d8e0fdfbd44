"""The merged document as it is sent: made and encoded once for each change, however many ask."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.portal.merge import Part, merge
from gateway.portal.services import Documents
from gateway.routing.routes import Routes

logger = logging.getLogger(__name__)


class Encoded(NamedTuple):
    """The document's bytes, and the version that its ETag names."""

    body: bytes
    version: str


class MergedDocument:
    """Changes when the routes do, or what a service says of itself."""

    def __init__(self, routes: Callable[[], Routes], documents: Documents, version: str) -> None:
        self._routes = routes
        self._documents = documents
        self._version = version
        self._encoding = asyncio.Lock()
        self._encoded: Encoded | None = None
        self._made_of: tuple[object, ...] = ()

    async def current(self) -> Encoded:
        """The document of the routes and parts as they are."""
        parts, routes = await self._documents.parts(), self._routes()
        made_of = (routes, *parts)
        async with self._encoding:
            # By identity: a table of routes is replaced whole, and so is a part that says something else.
            if self._encoded is None or list(map(id, made_of)) != list(map(id, self._made_of)):
                # In a thread: a large document takes longer than others should wait.
                self._encoded = await asyncio.to_thread(_encode, parts, routes, self._version)
                self._made_of = made_of
            return self._encoded


def _encode(parts: Sequence[Part], routes: Routes, version: str) -> Encoded:
    try:
        body = _write(parts, routes, version)
    except Exception:  # noqa: BLE001 - a document may break the rules of OpenAPI in any way
        body = _write([_readable(part, routes, version) for part in parts], routes, version)
    return Encoded(body, hashlib.sha256(body).hexdigest()[:32])


def _write(parts: Sequence[Part], routes: Routes, version: str) -> bytes:
    return json.dumps(merge(parts, routes, version), ensure_ascii=False).encode()


def _readable(part: Part, routes: Routes, version: str) -> Part:
    """The part, or its absence if it cannot be merged: those of the other services stay."""
    try:
        _write([part], routes, version)
    except Exception:
        logger.exception("the API document of %s cannot be merged", part.service)
        return Part(part.service, None, "its document is not OpenAPI that can be read")
    return part
