"""Headers by which proxies tell services who calls: a client's own never arrive, unless a route lets them through."""

import re
from pathlib import Path

import pytest

from gateway.http1.asserted_headers import NAMES, PREFIXES, WRITTEN
from gateway.http1.headers import MAX_HEADERS
from gateway.routing.files import Defaults, load_file
from gateway.routing.routes import RoutesRefused
from tests.conftest import GatewayUnderTest, running
from tests.wire import get

README = Path(__file__).parents[1] / "README.md"
FORGED = b"somebody-else"
# Names that others have reported, each of which a service or a framework has believed.
REPORTED = (
    b"X-Forwarded X-Username X-Email X-Groups X-Admin X-WEBAUTH-USER X-Consumer-Username X-Consumer-Custom-Id "
    b"X-Goog-Authenticated-User-Email X-Goog-Iap-Jwt-Assertion X-Amzn-Oidc-Data X-Amzn-Oidc-Identity "
    b"X-MS-CLIENT-PRINCIPAL X-MS-CLIENT-PRINCIPAL-NAME Cf-Access-Jwt-Assertion Cf-Access-Authenticated-User-Email "
    b"Tailscale-User-Login SSL-Client-S-DN X-Remote-Group X-Original-Host X-Host Proxy X-Auth-Request-Email "
    b"X-authentik-username X-Vouch-User X-Pomerium-Claim-Email Remote-Groups Impersonate-User X-Envoy-External-Address "
    b"X-Forwarded-Client-Cert Client-Cert Fly-Client-IP X-Nf-Client-Connection-Ip CloudFront-Viewer-Address"
).split()


def _spellings(name: bytes) -> tuple[bytes, ...]:
    return name, name.upper(), name.title(), name.swapcase()[:1] + name[1:]


def _every_name() -> list[bytes]:
    names = (*NAMES, *(prefix + tail for prefix in PREFIXES for tail in (b"x", b"user-id")), *REPORTED)
    return [spelling for name in names for spelling in _spellings(name)]


async def test_no_name_that_asserts_an_identity_or_an_address_crosses_in_whatever_case(
    gateway: GatewayUnderTest,
) -> None:
    names, at_once = _every_name(), MAX_HEADERS - 10
    for at in range(0, len(names), at_once):
        lines = [name + b": " + FORGED for name in names[at : at + at_once]]
        response = await gateway.send(get(b"/public/a", *lines))
        assert response.startswith(b"HTTP/1.1 200 "), response
        crossed = b"".join(gateway.upstream.got)
        assert FORGED not in crossed, crossed
        gateway.upstream.got.clear()


async def test_an_underscore_cannot_stand_for_the_dash(gateway: GatewayUnderTest) -> None:
    response = await gateway.send(get(b"/public/a", b"X_Email: a@example.com"))
    assert response.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", [b"X-Username", b"x-username", b"X-USERNAME"])
async def test_a_route_lets_one_through_by_name_and_no_other_route_does(tmp_path: Path, name: bytes) -> None:
    table = """
[[routes]]
name = "echo.behind"
path = "/behind"
methods = ["GET"]
access = "public"
pass_headers = ["X-Username", "tailscale-user-login"]
"""
    async with running(tmp_path, table=table) as gateway:
        # The same fields twice on one connection: what was made of them once must not cross to the other route.
        lines = (name + b": ann", b"X-Email: forged@example.com")
        await gateway.send(get(b"/behind", *lines) + get(b"/public/a", *lines) + get(b"/behind", *lines))
        requests = [got for data in gateway.upstream.got for got in data.split(b"\r\n\r\n") if got]
        assert [b"x-username: ann" in got.lower() for got in requests] == [True, False, True]
        assert not any(b"forged" in got for got in requests)


async def test_what_connection_names_is_not_let_through(tmp_path: Path) -> None:
    table = """
[[routes]]
name = "echo.behind"
path = "/behind"
methods = ["GET"]
access = "public"
pass_headers = ["x-username"]
"""
    async with running(tmp_path, table=table) as gateway:
        await gateway.send(get(b"/behind", b"X-Username: ann", b"Connection: x-username"))
        assert b"ann" not in b"".join(gateway.upstream.got)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((written.decode(), "is written by the gateway itself") for written in sorted(WRITTEN)),
        ("accept", "is none of the headers that are removed"),
        ("authorization", "is none of the headers that are removed"),
        ("connection", "is none of the headers that are removed"),
        ("x-request-id", "is none of the headers that are removed"),
        ("x-user-\\r\\na", "is none of the headers that are removed"),
        ("x-user-ä", "is none of the headers that are removed"),
    ],
)
def test_a_route_cannot_let_through_what_the_gateway_writes_or_never_removed(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "a").mkdir()
    text = f'[[routes]]\nname = "a"\npath = "/a"\nmethods = ["GET"]\npass_headers = ["{name}"]\n'
    (tmp_path / "a" / "routes.toml").write_text(text)
    with pytest.raises(RoutesRefused, match=reason):
        list(load_file(tmp_path / "a" / "routes.toml", Defaults()))


def test_the_readme_lists_every_name_and_every_prefix() -> None:
    section = README.read_text().partition("## Removed headers")[2].partition("\n## ")[0]
    names, prefixes = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    assert names.split() == sorted(name.decode() for name in NAMES)
    assert prefixes.split() == sorted(prefix.decode() for prefix in PREFIXES)
