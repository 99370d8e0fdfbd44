"""The gateway's own public pages: what there is and how it is, the API document, and a page to read it with."""

import asyncio
from collections.abc import Callable, Mapping
from html import escape
from typing import Annotated, Final

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.portal import files
from gateway.portal.document import MergedDocument
from gateway.portal.services import Documents, Health
from gateway.routing.media_types import Media
from gateway.routing.routes import OWN, Limit, Route, Routes
from service_kit import exception_handlers
from service_kit.preconditions import etag, is_known

# For each page and address. Reading the API document takes half a dozen files at once; an office shares an address.
_LIMIT: Final = Limit(rate=5, per_seconds=1.0, burst=20, by="address")
_WIDE_LIMIT: Final = Limit(rate=20, per_seconds=1.0, burst=100, by="address")
# So many pages are made at once; the others wait, so that requests to the services come in between.
_AT_ONCE: Final = 2
OWN_ROUTES: Final = tuple(
    Route(
        service=OWN,
        name=name,
        path=path,
        methods=frozenset(("GET",)),
        source="gateway",
        public=True,
        limit=limit,
        media=Media(produces=media_types),
    )
    for name, path, media_types, limit in (
        ("home", "/", ("text/html",), _LIMIT),
        ("docs", "/docs", ("text/html",), _LIMIT),
        ("docs.file", "/docs/{file}", (), _WIDE_LIMIT),
        ("openapi", "/openapi.json", ("application/json",), _LIMIT),
        ("health", "/healthz", (), _WIDE_LIMIT),
    )
)
_LOCAL: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
# Swagger UI draws with data: images of its own; everything else comes from here, and nothing is inline.
_DOCS_POLICY: Final = _LOCAL + "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
_HOME_POLICY: Final = _LOCAL + "style-src 'self'; img-src 'self'"
_HEAD: Final = (
    '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
    "<meta name=color-scheme content='light dark'>"
    "<title>{title}</title><link rel=icon href=docs/favicon.png>"
)
# Relative throughout: the page works on every port and behind a proxy that puts a prefix in front.
_DOCS: Final = (
    _HEAD.format(title="Gatehouse API") + "<link rel=stylesheet href=docs/swagger-ui.css>"
    "<link rel=stylesheet href=docs/docs.css><div id=api></div>"
    "<script src=docs/swagger-ui-bundle.js></script><script src=docs/start.js></script>"
)
_LINKS: Final = (
    ("/docs", "API document, to read and to try"),
    ("/openapi.json", "the same for programs (OpenAPI 3.1)"),
    ("/.well-known/oauth-authorization-server", "how to get a token (OAuth 2 metadata)"),
    ("/.well-known/jwks.json", "the keys that tokens are signed with"),
)


class Turns:
    """Pure ASGI: lets a few pages be made at a time. A page that is being sent is made: its client may read as slowly
    as it likes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Whoever asks whether the gateway is alive does not wait for a page that waits for a service.
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        await self._places.acquire()
        made = False

        async def note_start(message: Message) -> None:
            nonlocal made
            if not made:
                made = True
                self._places.release()
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        finally:
            if not made:
                self._places.release()


def pages(
    routes: Callable[[], Routes],
    documents: Documents,
    health: Health,
    version: str,
    refused: Callable[[], Mapping[str, str]] = dict,
    releases: Callable[[], Mapping[str, str]] = dict,
) -> FastAPI:
    """The application that the gateway's own routes lead to. `refused` names services whose files cannot be used, each
    with the one that has its path; `releases` what the services run."""
    app = FastAPI(
        title="Gateway",
        version=version,
        description="The gateway's own pages; what it forwards is in its /openapi.json.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    exception_handlers.install(app)
    app.add_middleware(Turns)
    document = MergedDocument(routes, documents, version)

    @app.get("/", response_class=HTMLResponse, operation_id="home", tags=["public"])
    async def home() -> HTMLResponse:
        """Version, health of each service, links."""
        page = _home(version, await health.states(), routes(), refused(), releases())
        return HTMLResponse(page, headers=_headers(_HOME_POLICY))

    @app.get("/docs", response_class=HTMLResponse, operation_id="docs", tags=["public"])
    async def docs() -> HTMLResponse:
        """Swagger UI on the merged document; every file of it comes from the gateway."""
        return HTMLResponse(_DOCS, headers=_headers(_DOCS_POLICY))

    @app.get("/openapi.json", operation_id="openapi", tags=["public"])
    async def openapi(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """One OpenAPI document of every operation that is forwarded; `x-services` says which part is old or missing."""
        encoded = await document.current()
        headers = {"ETag": etag(encoded.version), "Cache-Control": "no-cache"}
        if is_known(if_none_match, encoded.version):
            return Response(status_code=304, headers=headers)
        return Response(encoded.body, media_type="application/json", headers=headers)

    @app.get("/healthz", operation_id="alive", tags=["public"])
    async def alive() -> dict[str, str]:
        """For load balancers: this gateway answers. It asks no service; `/` says how those are."""
        return {"status": "alive"}

    @app.get("/docs/{name}", include_in_schema=False)
    async def file(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        found = files.find(name)
        if found is None:
            raise HTTPException(404)
        headers = {"ETag": etag(found.version), "Cache-Control": "no-cache"}
        if is_known(if_none_match, found.version):
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    return app


def _home(
    version: str,
    states: Mapping[str, str],
    routes: Routes,
    refused: Mapping[str, str],
    releases: Mapping[str, str],
) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}<td class={state.replace(' ', '-')}>{state}<td>{escape(releases.get(name, ''))}"
        for name, state in states.items()
    )
    # Why is in the log: this page is everybody's.
    rows += "".join(
        f"<tr><td>{escape(name)}<td class=refused>routes refused"
        + (f", they overlap those of {escape(overlaps)}" if overlaps else "")
        for name, overlaps in sorted(refused.items())
    )
    links = "".join(
        f"<li><a href={path[1:]}>{path}</a> {text}"
        for path, text in _LINKS
        if routes.find(b"GET", path.encode())
    )
    return (
        f"{_HEAD.format(title='Gatehouse')}<link rel=stylesheet href=docs/home.css>"
        f"<h1>Gatehouse</h1><p>gateway {escape(version)}<table>{rows}</table><ul>{links}</ul>"
    )


def _headers(policy: str) -> dict[str, str]:
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
