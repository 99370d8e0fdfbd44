"""The merged document as it is sent: made and encoded once for each change, however many ask."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.portal.merge import Part, merge
from gateway.portal.services import Documents
from gateway.routes import Routes


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
    body = json.dumps(merge(parts, routes, version), ensure_ascii=False).encode()
    return Encoded(body, hashlib.sha256(body).hexdigest()[:32])
