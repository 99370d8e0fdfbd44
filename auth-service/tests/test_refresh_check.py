"""`make refresh-check`: it passes a sound system, shows what is wrong with another, and is clear where none answers."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import pytest
import refresh_check
from conftest import Service, make_settings, started
from people import People
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from test_forward_auth import served
from test_rotation import UNLIMITED

from service_kit.testing import free_port


class Front:
    """The service with people who can register; it may have a defect."""

    def __init__(self, service: Service, people: People) -> None:
        self._service = service
        self._people = people
        self._seen: set[str] = set()
        self.defect = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.url.path == "/v1/users":
            await self._register(await request.json())
            await JSONResponse({}, 201)(scope, receive, send)
        else:
            form = dict(parse_qsl((await request.body()).decode()))
            response = await self._forwarded(request, form)
            kept = {name: response.headers[name] for name in ("content-type",) if name in response.headers}
            await JSONResponse(json.loads(response.content or "null"), response.status_code, kept)(
                scope, receive, send
            )

    async def _register(self, person: dict[str, str]) -> None:
        self._people.add(person["email"])
        self._people.passwords[person["email"]] = person["password"]

    async def _forwarded(self, request: Request, form: dict[str, str]) -> httpx.Response:
        used = form.get("refresh_token", "")
        if self.defect == "forks" and used in self._seen:
            # Each who presents a token gets a chain of their own: nobody ever learns that there are two.
            name = next(iter(self._people.passwords))
            password = self._people.passwords[name]
            return await self._service.token(grant_type="password", username=name, password=password)
        self._seen.add(used)
        return await self._service.public.request(
            request.method,
            request.url.path.replace("/v1/users/me", "/auth/verify"),
            data=form or None,
            headers={name: value for name, value in request.headers.items() if name == "authorization"},
        )


@pytest.fixture
async def front(redis_url: str, people: People, tmp_path: Path) -> AsyncIterator[tuple[Front, str]]:
    settings = make_settings(redis_url, people.url, tmp_path, **UNLIMITED)
    async with started(settings) as service:
        front = Front(service, people)
        async with served(front) as port:
            yield front, f"http://127.0.0.1:{port}"


async def test_a_sound_system_passes(front: tuple[Front, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert await refresh_check.report(front[1], waiting=False) == 0
    told = capsys.readouterr().out
    assert "FAIL" not in told
    assert told.count("  pass ") == len(refresh_check.CHECKS)
    assert told.splitlines()[-1] == f"{len(refresh_check.CHECKS)} of {len(refresh_check.CHECKS)} hold."


async def test_a_system_that_forks_chains_is_found_out(
    front: tuple[Front, str], capsys: pytest.CaptureFixture[str]
) -> None:
    front[0].defect = "forks"
    assert await refresh_check.report(front[1], waiting=False) == 1
    told = capsys.readouterr().out.splitlines()
    failed = {line.removeprefix("  FAIL    ").partition(":")[0] for line in told if line.startswith("  FAIL")}
    assert failed >= {
        "a lost answer asked for again at once gives the same successor",
        "fifty refreshes at once make one live token",
        "an older token is seen as reuse and ends the session",
        "two holders of one token are found out",
    }
    assert any(line.endswith("another token came back: the chain has forked") for line in told)
    assert any(line.startswith("  pass    every refresh gives a new refresh token") for line in told)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "not-a-url", "ftp://127.0.0.1"])
def test_where_no_system_answers_one_line_says_so(url: str) -> None:
    url = url.format(port=free_port())
    command = [sys.executable, refresh_check.__file__, url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{url}: nothing could be checked: ")
