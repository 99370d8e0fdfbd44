"""The merged document and the pages, in front of services of every temper."""

import asyncio
import gzip
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gateway.config import Settings
from gateway.contract import PATH, document
from gateway.portal.checks import refusal
from gateway.portal.document import MergedDocument
from gateway.portal.merge import Part, merge
from gateway.portal.pages import OWN_ROUTES, Turns, pages
from gateway.portal.services import Documents, Health
from gateway.routing.route_table import read_table
from gateway.routing.routes import Route, Routes
from gateway.server.worker_state import own_headers
from tests.conftest import GatewayUnderTest, running
from tests.conftest import turns as turns_of_the_loop
from tests.process import ROUTE, reset, until
from tests.wire import get

THING = {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
ANSWER = {"200": {"description": "ok", "content": THING}}


def described(*paths: str, thing: str = "string", methods: tuple[str, ...] = ("get",)) -> dict[str, Any]:
    item = {method: {"operationId": f"{method}_thing", "responses": dict(ANSWER)} for method in methods}
    schemas = {
        "Thing": {"type": "object", "properties": {"inner": {"$ref": "#/components/schemas/Inner"}}},
        "Inner": {"type": thing},
        "Shared": {"type": "string"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1.2.3"},
        "paths": {path: json.loads(json.dumps(item)) for path in paths},
        "components": {"schemas": schemas},
    }


def issuing_tokens(flows: dict[str, Any]) -> dict[str, Any]:
    schemes = {"oauth2": {"type": "oauth2", "flows": flows}, "odd": "not an object", "odder": {"flows": 1}}
    return described("/auth/token", methods=("post",)) | {"components": {"securitySchemes": schemes}}


def route(service: str, path: str, **more: Any) -> Route:
    return Route(service, path, path, more.pop("methods", frozenset(("GET",))), "x.toml:1", **more)


def merged(routes: list[Route], **documents: dict[str, Any]) -> dict[str, Any]:
    return merge([Part(name, document) for name, document in documents.items()], Routes(routes), "0.1.0")


def schema_of(document: dict[str, Any], path: str) -> Any:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    inner = document["components"]["schemas"][name]["properties"]["inner"]["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][inner]


def test_two_services_with_one_schema_name_keep_both() -> None:
    document = merged(
        [route("one", "/a"), route("two", "/b")],
        one=described("/a", thing="string"),
        two=described("/b", thing="integer"),
    )
    assert schema_of(document, "/a") == {"type": "string"}
    assert schema_of(document, "/b") == {"type": "integer"}


def test_a_schema_that_two_services_mean_alike_is_there_once() -> None:
    document = merged([route("one", "/a"), route("two", "/b")], one=described("/a"), two=described("/b"))
    assert sorted(document["components"]["schemas"]) == ["Inner", "Problem", "Thing"]


def test_only_what_a_route_forwards_is_in_the_document() -> None:
    document = merged(
        [route("one", "/a"), route("two", "/b")],
        one=described("/a", "/internal/v1/a", "/b", methods=("get", "post")),
    )
    assert {path: list(item) for path, item in document["paths"].items()} == {"/a": ["get"]}


def test_nothing_unused_is_left_in_the_document() -> None:
    document = merged([], one=described("/a"))
    assert list(document["components"]["schemas"]) == ["Problem"]


def test_a_path_that_the_gateway_moves_is_listed_where_consumers_find_it() -> None:
    moved = route("one", "/shop/{id}/*", rewrite="/v2/{rest}/of/{id}")
    document = merged([moved], one=described("/v2/items/{item_id}/of/{shop_id}", "/shop/{id}/items"))
    assert list(document["paths"]) == ["/shop/{shop_id}/items/{item_id}"]


def test_parameters_of_a_path_lead_to_the_route_of_that_shape() -> None:
    routes = [
        route("one", "/users/me", public=True),
        route("one", "/users/{id}", roles=frozenset(("admin",))),
    ]
    document = merged(routes, one=described("/users/me", "/users/{user_id}"))
    assert document["paths"]["/users/me"]["get"]["security"] == []
    one = document["paths"]["/users/{user_id}"]["get"]
    assert one["security"] == [{"oauth2": []}, {"bearer": []}]
    assert "`admin`" in one["description"]
    assert {"401", "403", "429", "502", "503", "504"} <= set(one["responses"])


def test_each_way_to_authorize_says_when_it_is_the_right_one() -> None:
    document = merged([], auth=issuing_tokens({"password": {"tokenUrl": "/auth/token", "scopes": {}}}))
    assert {
        name for name, way in document["components"]["securitySchemes"].items() if way["description"]
    } == {
        "bearer",
        "oauth2",
    }


def test_addresses_in_the_document_are_relative() -> None:
    document = merged([], auth=issuing_tokens({"password": {"tokenUrl": "/auth/token", "scopes": {}}}))
    assert document["servers"] == [{"url": "./"}]
    flow = document["components"]["securitySchemes"]["oauth2"]["flows"]["password"]
    assert flow["tokenUrl"] == "auth/token"


def test_a_password_is_asked_for_only_where_the_issuer_takes_one() -> None:
    password = {"password": {"tokenUrl": "/auth/token", "scopes": {}}}
    elsewhere = described("/b") | {"components": {"securitySchemes": {"oauth2": {"flows": password}}}}
    for documents in ({}, {"auth": issuing_tokens({})}, {"auth": issuing_tokens({}), "two": elsewhere}):
        document = merged([route("two", "/b")], **documents)
        assert document["components"]["securitySchemes"]["oauth2"]["flows"] == {}
    document = merged([], auth=issuing_tokens(password), two=elsewhere)
    assert list(document["components"]["securitySchemes"]["oauth2"]["flows"]) == ["password"]


def test_one_operation_id_is_given_once() -> None:
    document = merged([route("one", "/a"), route("two", "/b")], one=described("/a"), two=described("/b"))
    assert document["paths"]["/a"]["get"]["operationId"] != document["paths"]["/b"]["get"]["operationId"]


@pytest.mark.parametrize(
    "broken",
    [
        [],
        {},
        {"openapi": "3.0.2"},
        {"openapi": "3.1.0", "paths": {"/a": 1}},
        {"openapi": "3.1.0", "paths": []},
    ],
)
def test_what_is_no_document_is_refused_with_a_reason(broken: object) -> None:
    assert refusal(broken)


class Service:
    """Answers /openapi.json with its document, or not at all; counts how often it was asked."""

    def __init__(self) -> None:
        self.body = json.dumps(described("/a")).encode()
        self.status = "200 OK"
        self.silent = False
        self.asked = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.silent:
                await reader.read()  # until the other side gives up
            head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Service]:
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(Service()) as one:
        yield one


def asking(service: Service, lifetime: float) -> Documents:
    return Documents(
        lambda: Routes([route("one", "/a")]), lambda _name: [("127.0.0.1", service.port)], lifetime
    )


async def test_a_document_is_fetched_once_in_its_lifetime_however_many_ask(service: Service) -> None:
    documents = asking(service, 60.0)
    await asyncio.gather(*(documents.parts() for _ in range(10)))
    await documents.parts()
    assert service.asked == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("503 Busy", b""),
        ("200 OK", b"<html>"),
        ("200 OK", b"[1]"),
        ("200 OK", b"[" * 100_000),
        ("200 OK\r\nContent-Encoding: gzip", b"not zipped"),
        ("200 OK\r\nContent-Encoding: gzip", gzip.compress(json.dumps(described("/a")).encode(), mtime=0)),
    ],
)
async def test_an_old_document_serves_while_there_is_no_new_one(
    service: Service, status: str, body: bytes
) -> None:
    documents = asking(service, 0.01)
    await documents.parts()
    service.status, service.body = status, body
    await asyncio.sleep(0.02)
    (part,) = await documents.parts()
    assert part.state == "stale"
    assert part.document is not None
    assert "one is stale here" in merge([part], Routes(), "0")["info"]["description"]


async def test_a_service_that_is_away_is_said_to_be_missing(service: Service) -> None:
    def where(name: str) -> list[tuple[str, int]]:
        return [("127.0.0.1", service.port if name == "one" else 1)]

    documents = Documents(lambda: Routes([route("one", "/a"), route("two", "/b")]), where, 60.0)
    document = merge(await documents.parts(), Routes([route("one", "/a"), route("two", "/b")]), "0")
    assert list(document["paths"]) == ["/a"]
    assert [(one["name"], one["state"]) for one in document["x-services"]] == [
        ("one", "current"),
        ("two", "missing"),
    ]


async def test_the_health_of_each_service_is_its_own_word(service: Service) -> None:
    async def state() -> str:
        health = Health(lambda: Routes([route("one", "/a")]), lambda _name: [("127.0.0.1", service.port)])
        return (await health.states())["one"]

    service.body = b'{"status": "ready"}'
    assert await state() == "ready"
    service.status = "503 Not now"
    assert await state() == "not ready"
    service.silent = True
    assert await state() == "no answer"


async def test_a_page_that_its_client_does_not_wait_for_has_a_line_in_the_log(
    tmp_path: Path, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    service.silent = True
    async with running(tmp_path, upstream_internal={"echo": f"127.0.0.1:{service.port}"}) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(get(b"/"))
        await until(lambda: service.asked == 1, 5)
        reset(writer)
        await until(lambda: "GET / 499 0 B " in caplog.text, 5)
    assert caplog.text.count("GET / ") == 1


def portal(documents: Callable[[], Awaitable[list[Part]]] | None = None) -> httpx.AsyncClient:
    def nowhere(_name: str) -> list[tuple[str, int]]:
        return []

    app = pages(
        lambda: Routes(OWN_ROUTES), Documents(Routes, nowhere, 60.0), Health(Routes, nowhere), "0.1.0"
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def test_every_file_that_a_page_names_is_served_from_here() -> None:
    async with portal() as client:
        for page in ("/", "/docs"):
            response = await client.get(page)
            assert "//" not in response.text.replace("<!doctype", "")
            assert "'unsafe" not in response.headers["content-security-policy"]
            for part in response.text.replace(">", " ").split():
                if part.startswith(("href=docs", "src=docs")):
                    assert (await client.get("/" + part.partition("=")[2])).status_code == 200, part


async def test_health_is_told_by_the_gateway_alone_in_any_media_type(tmp_path: Path) -> None:
    async with running(tmp_path, upstreams={"echo": "127.0.0.1:1"}) as gateway:
        for accept in (b"*/*", b"text/html", b"text/plain"):
            told = await gateway.send(get(b"/healthz", b"Accept: " + accept))
            assert told.startswith(b"HTTP/1.1 200 ")
            assert told.endswith(b'\r\n\r\n{"status":"alive"}')


async def test_an_unchanged_document_is_not_sent_again() -> None:
    async with portal() as client:
        tag = (await client.get("/openapi.json")).headers["etag"]
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            response = await client.get("/openapi.json", headers={"If-None-Match": condition})
            assert (response.status_code, response.headers["etag"]) == (304, tag)
        lines = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
        assert (await client.get("/openapi.json", headers=lines)).status_code == 304
        assert (await client.get("/openapi.json", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_the_document_is_merged_once_for_each_change_however_many_ask(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    merges: list[int] = []

    def counted(parts: Sequence[Part], routes: Routes, version: str) -> dict[str, Any]:
        merges.append(len(parts))
        return merge(parts, routes, version)

    monkeypatch.setattr("gateway.portal.document.merge", counted)
    table = [Routes([route("one", "/a")])]
    documents = Documents(lambda: table[0], lambda _name: [("127.0.0.1", service.port)], 0.01)
    merged_document = MergedDocument(lambda: table[0], documents, "0.1.0")
    first = (await asyncio.gather(*(merged_document.current() for _ in range(20))))[0]
    await asyncio.sleep(0.02)  # the document is fetched again, and says the same
    assert await merged_document.current() is first
    assert service.asked == 2
    assert len(merges) == 1
    service.body = json.dumps(described("/a", thing="integer")).encode()
    await asyncio.sleep(0.02)
    second = await merged_document.current()
    assert second.version != first.version
    table[0] = Routes([route("one", "/a", public=True)])
    third = await merged_document.current()
    assert third.version != second.version
    assert len(merges) == 3


async def test_a_page_is_given_to_an_address_no_faster_than_anybody_reads(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        for path, at_once in (
            (b"/", 20),
            (b"/docs", 20),
            (b"/docs/home.css", 100),
            (b"/openapi.json", 20),
            (b"/healthz", 100),
        ):
            told = await gateway.send(get(path) * (at_once + 40), wait=10)
            statuses = re.findall(rb"HTTP/1\.1 (\d+) ", told)
            assert statuses[:at_once] == [b"200"] * at_once
            assert b"429" in statuses[at_once:]
            assert b"\r\nRateLimit-Policy: " in told
            assert b"\r\nRetry-After: 1\r\n" in told
        assert (await gateway.send(get(b"/public/a"))).startswith(b"HTTP/1.1 200 ")


async def test_a_few_pages_are_made_at_a_time_and_one_that_is_sent_keeps_nobody_waiting() -> None:
    begun: list[str] = []
    may_begin, may_end = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await may_begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await may_end.wait()

    async def nothing(*_: object) -> Any: ...

    turns = Turns(app)
    asked = [asyncio.create_task(turns({"type": "http", "path": str(n)}, nothing, nothing)) for n in range(5)]
    await until(lambda: len(begun) == 2, 5)
    await turns_of_the_loop()
    assert begun == ["0", "1"]
    health = asyncio.create_task(turns({"type": "http", "path": "/healthz"}, nothing, nothing))
    await until(lambda: begun[-1] == "/healthz", 5)
    may_begin.set()
    await until(lambda: len(begun) == 6, 5)
    may_end.set()
    await asyncio.gather(*asked, health)


async def test_a_file_that_its_client_has_is_not_sent_again() -> None:
    async with portal() as client:
        first = await client.get("/docs/swagger-ui.css")
        assert first.headers["content-type"].startswith("text/css")
        again = await client.get("/docs/swagger-ui.css", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/docs/none.css")).json()["code"] == "not_found"


def test_the_contract_is_what_the_code_says() -> None:
    assert PATH.read_text() == document(), "run python -m gateway.contract"


def test_every_example_is_of_an_answer_in_the_contract() -> None:
    paths = json.loads(PATH.read_text())["paths"]
    for file in (PATH.parent / "examples").glob("*.json"):
        example = json.loads(file.read_text())
        operation = paths[example["request"]["path"]][example["request"]["method"].lower()]
        assert str(example["response"]["status"]) in operation["responses"]


def test_the_routes_of_the_other_services_load_beside_the_portal(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    for service in ("auth-service", "user-service"):
        (tmp_path / service).symlink_to(repository / service / "routes")
    table = read_table(tmp_path, OWN_ROUTES)
    assert not table.refused
    assert table.routes.match(b"GET", b"/docs").service == "gateway"


async def test_the_page_names_a_service_whose_routes_are_refused_and_whose_they_overlap(
    tmp_path: Path,
) -> None:
    for service, text in (
        ("echo-copy", ROUTE.format(name="copy", path="/public/*")),
        ("broken", "routes = 7"),
    ):
        (tmp_path / service).mkdir()
        (tmp_path / service / "routes.toml").write_text(text)
    async with running(tmp_path) as gateway, httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{gateway.port}/")).text
    assert "<td>echo-copy<td class=refused>routes refused, they overlap those of echo" in page
    assert "<td>broken<td class=refused>routes refused<" in page
    assert "<td>echo" in page
    assert str(tmp_path) not in page


async def test_a_large_file_of_the_portal_comes_whole_over_a_kept_connection(
    gateway: GatewayUnderTest,
) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        for _ in range(2):
            response = await client.get("/docs/swagger-ui-bundle.js")
            assert response.status_code == 200
            assert len(response.content) > 1_000_000
        known = {"If-None-Match": response.headers["etag"]}
        assert (await client.get("/docs/swagger-ui-bundle.js", headers=known)).status_code == 304
        assert (await client.get("/docs/redoc.standalone.js")).status_code == 404
        head = await client.head("/docs/swagger-ui-bundle.js")
        assert head.headers["content-length"] == str(len(response.content))
        missing = await client.get("/docs/nothing.js")
        assert missing.status_code == 404
        assert missing.json()["request_id"] == missing.headers["x-request-id"]


@pytest.mark.parametrize(
    ("public_url", "seconds", "said"),
    [
        ("http://localhost:8080", None, 0),
        ("https://api.example", None, 365 * 24 * 3600),
        ("https://api.example", 0, 0),
        ("http://localhost:8080", 60, 60),
    ],
)
def test_browsers_are_told_to_come_by_tls_where_tls_is_meant(
    public_url: str, seconds: int | None, said: int
) -> None:
    settings = Settings(
        public_url=public_url,
        hsts_seconds=seconds,
        jwks_url="http://127.0.0.1:1/",
        revocations_redis_url="redis://127.0.0.1:1/0",
    )
    headers = own_headers(settings)
    assert headers.startswith(b"X-Content-Type-Options: nosniff")
    assert (b"Strict-Transport-Security: max-age=%d" % said in headers) == bool(said)
