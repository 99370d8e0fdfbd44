"""Ready is what every check says within one deadline."""

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI

from service_kit import health


def client(**checks: health.Check) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(health.router(checks, deadline=0.1))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service:9000")


async def well() -> str | None:
    return None


async def unwell() -> str | None:
    return "the store does not answer"


async def hanging() -> str | None:
    await asyncio.sleep(60)
    return None


async def broken() -> str | None:
    raise ConnectionError("with a password in its words")


async def test_a_service_that_can_serve_is_ready() -> None:
    async with client(store=well) as service:
        assert (await service.get("/readyz")).json() == {"status": "ready"}


@pytest.mark.quiet
async def test_each_reason_against_is_told_and_no_check_outlasts_the_deadline() -> None:
    began = time.monotonic()
    async with client(store=unwell, mail=hanging, keys=broken, cache=well) as service:
        answer = await service.get("/readyz")
        assert (await service.get("/healthz")).status_code == 200
    assert answer.status_code == 503
    assert answer.json()["reasons"] == {
        "store": "the store does not answer",
        "mail": "no answer in time",
        "keys": "ConnectionError",
    }
    assert time.monotonic() - began < 1


async def test_a_check_that_hangs_on_although_it_is_cancelled_is_begun_once() -> None:
    begun, let_go = 0, asyncio.Event()

    async def stubborn() -> str | None:
        nonlocal begun
        begun += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return None

    async with client(store=stubborn) as service:
        answers = await asyncio.gather(*(service.get("/readyz") for _ in range(3)))
        answers.append(await service.get("/readyz"))
        assert [answer.json()["reasons"] for answer in answers] == [{"store": "no answer in time"}] * 4
        let_go.set()
        assert (await service.get("/readyz")).status_code == 200
        assert begun == 1
        assert (await service.get("/readyz")).status_code == 200
        assert begun == 2


async def test_a_check_that_ends_as_cancelled_is_no_answer() -> None:
    async def cancelled() -> str | None:
        raise asyncio.CancelledError

    async with client(store=cancelled) as service:
        answer = await service.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, {"store": "no answer in time"})


async def test_a_draining_worker_is_alive_and_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.draining, "begun", True)
    async with client(store=well) as service:
        assert (await service.get("/readyz")).status_code == 503
        assert (await service.get("/healthz")).status_code == 200


@pytest.mark.parametrize("check", [well, unwell])
async def test_a_probe_learns_of_which_release_the_process_is(
    check: health.Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(store=check) as service:
        assert "x-release" not in (await service.get("/readyz")).headers
        monkeypatch.setattr(health.release, "name", "orders/1.3.0+abc1234")
        assert (await service.get("/readyz")).headers["x-release"] == "orders/1.3.0+abc1234"
        assert "x-release" not in (await service.get("/healthz")).headers


async def test_why_a_service_is_not_ready_is_logged_once_and_so_is_the_end_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reasons = ["the folder cannot be written", "the folder cannot be written", None, None]

    async def folder() -> str | None:
        return reasons.pop(0)

    with caplog.at_level("INFO", "service_kit.health"):
        async with client(folder=folder) as service:
            for _ in range(4):
                await service.get("/readyz")
    assert caplog.messages == ["not ready: folder: the folder cannot be written", "ready"]
