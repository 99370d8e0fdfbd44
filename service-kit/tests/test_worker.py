"""A real gunicorn: two binds, drained before it stops."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service_kit.testing import free_port

APP = """
from fastapi import FastAPI
from service_kit import answers, health, logs, metrics
from service_kit.binds import TwoBinds
from service_kit.settings import ServiceSettings, load
from service_kit.tracing import RequestContext

settings = load(ServiceSettings)

def serve():
    logs.configure(settings, "example")
    public, internal = FastAPI(), FastAPI()
    for app in (public, internal):
        answers.install(app)
    public.add_middleware(metrics.RequestMetrics)
    public.get("/hello")(lambda: "hello")
    internal.include_router(health.router({}))
    internal.include_router(metrics.router())
    return RequestContext(logs.AccessLog(TwoBinds(public, internal, settings.internal_port)))
"""

CONF = """
from service_kit.settings import ServiceSettings, load
from service_kit.worker import gunicorn_options

globals().update(gunicorn_options(load(ServiceSettings), "example"))
"""


class Example:
    def __init__(self, process: asyncio.subprocess.Process, public: str, internal: str) -> None:
        self.process, self.public, self.internal = process, public, internal


@pytest.fixture
async def example(tmp_path: Path) -> AsyncIterator[Example]:
    (tmp_path / "example_app.py").write_text(APP)
    (tmp_path / "example_conf.py").write_text(CONF)
    (tmp_path / "metrics").mkdir()
    for name in ("kept.txt", "counter_1.db"):
        (tmp_path / "metrics" / name).touch()
    public, internal = free_port(), free_port()
    environment = os.environ | {
        "PUBLIC_PORT": str(public),
        "INTERNAL_PORT": str(internal),
        "DRAIN_SECONDS": "1",
        "LOG_FORMAT": "json",
        "WORKERS": "2",
        "METRICS_DIR": str(tmp_path / "metrics"),
        "PYTHONPATH": str(tmp_path),
    }
    command = (sys.executable, "-m", "gunicorn", "-c", "python:example_conf", "example_app:serve()")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    example = Example(process, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}")
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                if (await client.get(f"{example.internal}/readyz")).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    yield example
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 15)


async def test_a_route_of_one_bind_is_unknown_on_the_other(example: Example) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{example.public}/hello")).json() == "hello"
        for refused in (
            f"{example.public}/healthz",
            f"{example.public}/metrics",
            f"{example.internal}/hello",
        ):
            answer = await client.get(refused, headers={"Host": f"127.0.0.1:{example.internal[-5:]}"})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


async def test_metrics_add_up_across_workers(example: Example) -> None:
    for _ in range(20):
        async with httpx.AsyncClient() as client:  # a connection each, so that both workers get some
            await client.get(f"{example.public}/hello")
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{example.internal}/metrics")).text
    counts = [line for line in text.splitlines() if "_count{" in line and "/hello" in line]
    assert sum(float(line.rpartition(" ")[2]) for line in counts) == 20.0


async def test_a_stopped_service_answers_until_it_has_drained(example: Example) -> None:
    example.process.send_signal(signal.SIGTERM)
    async with httpx.AsyncClient() as client, asyncio.timeout(20):
        while (await client.get(f"{example.internal}/readyz")).status_code != 503:
            await asyncio.sleep(0.02)
        answer = await client.get(f"{example.public}/hello")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert await asyncio.wait_for(example.process.wait(), 45) == 0


async def hello_count(example: Example) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{example.internal}/metrics")).text
    counts = [line for line in text.splitlines() if "_count{" in line and "/hello" in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def workers_of(example: Example) -> set[int]:
    children = Path(f"/proc/{example.process.pid}/task/{example.process.pid}/children").read_text()
    return {int(pid) for pid in children.split()}


async def test_what_a_killed_worker_counted_stays_counted(example: Example) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(5):
            await client.get(f"{example.public}/hello")
    for pid in workers_of(example):
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(45):
        while True:
            try:
                assert await hello_count(example) == 5
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)


async def test_a_reload_fails_nobody_is_ready_throughout_and_forgets_no_count(example: Example) -> None:
    before, sent = workers_of(example), 0
    example.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        while workers_of(example) & before:
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{example.public}/hello")).status_code == 200
                assert (await client.get(f"{example.internal}/readyz")).status_code == 200
            sent += 1
    assert sent
    assert await hello_count(example) == sent


async def test_metrics_of_an_earlier_run_are_forgotten_and_other_files_of_the_folder_are_not(
    tmp_path: Path, example: Example
) -> None:
    assert (tmp_path / "metrics" / "kept.txt").exists()
    assert not (tmp_path / "metrics" / "counter_1.db").exists()
