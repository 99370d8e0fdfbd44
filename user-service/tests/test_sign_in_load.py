"""Many sign-ins at once, and what an answer's time tells."""

import asyncio
import http.client
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import quantiles

import pytest
from conftest import PASSWORD, Service
from sqlalchemy.engine import make_url
from system import RunningService, begin_revocations, serving

from service_kit.identity import Identity
from service_kit.testing import RedisServer, TestIssuer

PAIRS = 500

pytestmark = pytest.mark.containers  # they take long, and a machine that does little else


@pytest.fixture
async def running(
    database_url: str, redis_server: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> AsyncIterator[RunningService]:
    begin_revocations(redis_server.url)
    async with serving(make_url(database_url), redis_server.url, tmp_path, issuer) as service:
        yield service


def look_at_health(port: int, over: threading.Event) -> list[float]:
    """Seconds that each look took, until it is over."""
    took = list[float]()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not over.wait(0.005):
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - began)
        assert answer.status == 200
    connection.close()
    return took


def p99(took: list[float]) -> float:
    return quantiles(took, n=100)[-1]


async def test_a_flood_of_sign_ins_leaves_health_quick_and_is_told_to_come_back(
    running: RunningService, issuer: TestIssuer
) -> None:
    token = issuer.service_token("user-service", "credentials:verify")
    body = {"email": "nobody@example.com", "password": PASSWORD}
    over = threading.Event()
    asyncio.get_running_loop().call_later(2, over.set)
    at_rest = p99(await asyncio.to_thread(look_at_health, running.internal, over))
    over.clear()
    # From a thread of its own: this loop is busy sending the flood.
    looking = asyncio.create_task(asyncio.to_thread(look_at_health, running.internal, over))
    async with running.client(token, internal=True) as client:
        answers = await asyncio.gather(
            *(client.post("/internal/v1/credentials/verify", json=body) for _ in range(150))
        )
    over.set()
    took = await looking
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert len(refused) < 150
    assert all(answer.status_code in (200, 503) for answer in answers)
    assert all(answer.json()["code"] == "hashing_busy" for answer in refused)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    # 100 ms; on a machine that is busy with other things, not much longer than at rest.
    assert p99(took) < max(0.1, 3 * at_rest), (at_rest, len(took), max(took))


@pytest.mark.parametrize("empty_database", ["mysql"], indirect=True)
async def test_the_time_of_a_refusal_does_not_tell_whether_there_is_an_account(
    service: Service, identity: Identity
) -> None:
    ada = await service.register("ada@example.com")
    assert (await service.verify(ada.email))["verified"]
    # By chance alone one reading in a hundred leaves the bounds; a difference that is there leaves both.
    if not 0.45 <= (first := await _told_by_time(service, identity, ada.email)) <= 0.55:
        second = await _told_by_time(service, identity, ada.email)
        assert 0.45 <= second <= 0.55, (first, second)


async def _told_by_time(service: Service, identity: Identity, known: str) -> float:
    """How often a refusal for the account took longer than one for nobody: 0.5 tells nothing (the AUC)."""

    async def seconds(email: str) -> float:
        began = time.perf_counter()
        assert not (await service.verify(email, "not the password"))["verified"]
        return time.perf_counter() - began

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(PAIRS):
        identity.revocations.prove(time.time())  # nobody else says here that nothing was revoked
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(await seconds((known, "eve@example.com")[which]))
    wins = sum((mine > other) + (mine == other) / 2 for mine in times[0] for other in times[1])
    return wins / PAIRS**2
