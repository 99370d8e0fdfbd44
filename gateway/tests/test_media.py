"""Media types: a body that a route does not take is 415, a client that wants nothing of what it gives 406."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.routing.files import Defaults, load_file
from gateway.routing.routes import RoutesRefused
from tests.conftest import GatewayUnderTest, running
from tests.test_exchange import is_problem, status
from tests.wire import HOST

TABLE = """
[[routes]]
name = "echo.typed"
path = "/typed"
methods = ["GET", "POST"]
access = "public"
consumes = ["application/json", "image/*"]
produces = ["application/json"]
"""


@pytest.fixture(name="typed")
async def _typed(tmp_path: Path) -> AsyncIterator[GatewayUnderTest]:
    async with running(tmp_path, table=TABLE) as gateway:
        yield gateway


def ask(method: bytes, path: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    length = (b"Content-Length: %d" % len(body),) if body else ()
    headers = b"".join(line + b"\r\n" for line in (b"Connection: close", *lines, *length))
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"APPLICATION/JSON; charset=utf-8", b"image/png", b"image/x-new"]
)
async def test_a_body_of_a_listed_kind_crosses(typed: GatewayUnderTest, content_type: bytes) -> None:
    assert (
        status(await typed.send(ask(b"POST", b"/typed", b"Content-Type: " + content_type, body=b"{}"))) == 200
    )
    assert b"\r\nContent-Type: " + content_type + b"\r\n" in typed.upstream.got[0]


@pytest.mark.parametrize(
    "lines",
    [(), (b"Content-Type: text/plain",), (b"Content-Type: application/jsonp",), (b"Content-Type: /*",)],
)
async def test_a_body_of_another_kind_is_a_415_that_says_what_is_taken(
    typed: GatewayUnderTest, lines: tuple[bytes, ...]
) -> None:
    response = await typed.send(ask(b"POST", b"/typed", *lines, body=b"{}"))
    assert is_problem(response, 415, b"unsupported_media_type"), response
    assert b"\r\nAccept: application/json, image/*\r\n" in response
    assert typed.upstream.got == []


async def test_without_a_body_there_is_no_kind_to_refuse(typed: GatewayUnderTest) -> None:
    assert status(await typed.send(ask(b"POST", b"/typed", b"Content-Type: text/plain"))) == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((), 200),
        ((b"*/*",), 200),
        ((b"text/html, application/*;q=0.1",), 200),
        ((b"text/html", b"Application/JSON"), 200),
        ((b"",), 200),
        ((b"text/html",), 406),
        ((b"application/json;q=0, */*",), 406),
        ((b"application/*;q=0.0", b"text/*"), 406),
        ((b"application/json; q=0.5; v=1, */*;q=0",), 200),
    ],
)
async def test_a_client_that_accepts_nothing_of_what_is_given_is_told_so(
    typed: GatewayUnderTest, accept: tuple[bytes, ...], expected: int
) -> None:
    response = await typed.send(ask(b"GET", b"/typed", *(b"Accept: " + value for value in accept)))
    assert status(response) == expected
    assert expected == 200 or is_problem(response, 406, b"not_acceptable")
    assert len(typed.upstream.got) == (expected == 200)


@pytest.mark.parametrize(("path", "given"), [(b"/", b"text/html"), (b"/openapi.json", b"application/json")])
async def test_the_gateways_own_pages_are_given_as_what_they_are(
    gateway: GatewayUnderTest, path: bytes, given: bytes
) -> None:
    response = await gateway.send(ask(b"GET", path, b"Accept: image/png"))
    assert is_problem(response, 406, b"not_acceptable"), response
    response = await gateway.send(ask(b"GET", path, b"Accept: " + given))
    assert status(response) == 200
    assert b"content-type: " + given in response.lower()


@pytest.mark.parametrize(
    "wrong", ['consumes = ["json"]', 'produces = ["image/*"]', 'consumes = ["Text/Plain"]']
)
def test_what_is_no_media_type_is_refused_in_the_table(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "echo").mkdir()
    (tmp_path / "echo" / "routes.toml").write_text(
        f'[[routes]]\nname = "a"\npath = "/a"\nmethods = ["POST"]\n{wrong}\n'
    )
    with pytest.raises(RoutesRefused, match=rf"routes.toml:5: {wrong[:8]}"):
        list(load_file(tmp_path / "echo" / "routes.toml", Defaults()))
