"""A real gunicorn: two binds, metrics that add up, and nobody cut off when it stops or reloads."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from service_kit.testing import free_port
from service_kit.worker import packaged_release

APP = """
import asyncio
import gc
import itertools

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from service_kit import exception_handlers
from service_kit import health, logs, metrics
from service_kit.port_dispatch import PortDispatch
from service_kit.settings import ServiceSettings, load
from service_kit.tracing import RequestContext

settings = load(ServiceSettings)

async def wait(seconds: float):
    (settings.metrics_dir / f"waiting-{seconds:.0f}").touch()
    await asyncio.sleep(seconds)
    return "waited"

async def pour():
    for poured in itertools.count():
        (settings.metrics_dir / "poured").write_text(str(poured))
        yield bytes(2**16)

def serve():
    logs.configure(settings, "example")
    public, internal = FastAPI(), FastAPI()
    for app in (public, internal):
        exception_handlers.install(app)
    public.add_middleware(metrics.RequestMetrics)
    public.get("/hello")(lambda: "hello")
    public.get("/passed-over")(gc.get_freeze_count)
    public.get("/wait/{seconds}")(wait)
    public.get("/pour")(lambda: StreamingResponse(pour()))
    internal.include_router(health.router({}))
    internal.include_router(metrics.router())
    return RequestContext(logs.AccessLogMiddleware(PortDispatch(public, internal, settings.internal_port)))
"""

CONF = """
from service_kit.settings import ServiceSettings, load
from service_kit.worker import gunicorn_options

globals().update(gunicorn_options(load(ServiceSettings), "example"))
"""


class Example:
    """A running service of two workers."""

    def __init__(self, folder: Path, **settings: str) -> None:
        (folder / "example_app.py").write_text(APP)
        (folder / "example_conf.py").write_text(CONF)
        self.metrics = folder / "metrics"
        self.metrics.mkdir()
        for name in ("kept.txt", "counter_1.db"):
            (self.metrics / name).touch()
        self.log = folder / "log"
        public, internal = free_port(), free_port()
        self.public, self.internal = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}"
        environment = os.environ | {
            "PUBLIC_PORT": str(public),
            "INTERNAL_PORT": str(internal),
            "DRAIN_SECONDS": "0.5",
            "GRACEFUL_SECONDS": "3",
            "LOG_FORMAT": "json",
            "WORKERS": "2",
            "METRICS_DIR": str(self.metrics),
            "PYTHONPATH": str(folder),
        }
        command = (sys.executable, "-m", "gunicorn", "-c", "python:example_conf", "example_app:serve()")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment | settings, stdout=log, stderr=log)

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in children.split()}

    def until_ready(self) -> None:
        """Wait until both workers answer for readiness."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if len(self.workers()) == 2 and httpx.get(f"{self.internal}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    async def until_served(self, *seconds: int) -> None:
        """Wait until requests of /wait that last so long are under way."""
        async with asyncio.timeout(20):
            while not all((self.metrics / f"waiting-{each}").exists() for each in seconds):
                await asyncio.sleep(0.01)

    def hellos(self) -> float:
        """How many requests of /hello the service says that it had, all workers together."""
        lines = httpx.get(f"{self.internal}/metrics").text.splitlines()
        counts = [line for line in lines if "_count{" in line and "/hello" in line]
        return sum(float(line.rpartition(" ")[2]) for line in counts)


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[Example]:
    example = Example(folder, **settings)
    try:
        example.until_ready()
        yield example
    finally:
        example.process.send_signal(signal.SIGQUIT)  # without draining
        try:
            example.process.wait(15)
        except subprocess.TimeoutExpired:
            example.process.kill()
            example.process.wait()
            raise


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    with started(tmp_path_factory.mktemp("example")) as example:
        yield example


@pytest.fixture
def example(shared: Example) -> Example:
    """One for every test that leaves it running."""
    shared.until_ready()
    return shared


def test_a_route_of_one_bind_is_unknown_on_the_other(example: Example) -> None:
    assert httpx.get(f"{example.public}/hello").json() == "hello"
    for refused in (f"{example.public}/healthz", f"{example.public}/metrics", f"{example.internal}/hello"):
        answer = httpx.get(refused, headers={"Host": f"127.0.0.1:{example.internal[-5:]}"})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_probe_learns_of_which_release_a_worker_is(example: Example, tmp_path: Path) -> None:
    assert (
        httpx.get(f"{example.internal}/readyz").headers["x-release"] == "example"
    )  # no package of that name
    with started(tmp_path, RELEASE="example/1.3.0+abc1234") as released:
        assert httpx.get(f"{released.internal}/readyz").headers["x-release"] == "example/1.3.0+abc1234"


def test_a_package_says_which_release_it_is() -> None:
    assert packaged_release("service-kit") == f"service-kit/{version('service-kit')}"


def test_metrics_add_up_across_workers(example: Example) -> None:
    before = example.hellos()
    for _ in range(20):
        httpx.get(f"{example.public}/hello")  # a connection each, so that both workers get some
    assert example.hellos() - before == 20


def test_what_a_worker_has_loaded_is_passed_over_by_the_collector(example: Example) -> None:
    assert httpx.get(f"{example.public}/passed-over").json() > 10_000


def test_metrics_of_an_earlier_run_are_forgotten_and_other_files_of_the_folder_are_not(
    example: Example,
) -> None:
    assert (example.metrics / "kept.txt").exists()
    assert not (example.metrics / "counter_1.db").exists()


def test_what_a_killed_worker_counted_stays_counted(example: Example) -> None:
    for _ in range(5):
        httpx.get(f"{example.public}/hello")
    before, killed = example.hellos(), example.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 45
    while example.workers() & killed and time.monotonic() < deadline:
        time.sleep(0.02)
    example.until_ready()
    assert not example.workers() & killed
    assert example.hellos() == before >= 5


async def test_a_reload_fails_nobody_is_ready_throughout_and_forgets_no_count(example: Example) -> None:
    old, before, sent = example.workers(), example.hellos(), 0
    async with httpx.AsyncClient(timeout=60) as client:
        hanging = asyncio.create_task(client.get(f"{example.public}/wait/1000"))
        under_way = asyncio.create_task(client.get(f"{example.public}/wait/1"))
        await example.until_served(1000, 1)
        example.process.send_signal(signal.SIGHUP)
        began = time.monotonic()
        async with asyncio.timeout(60):
            while example.workers() & old:
                async with httpx.AsyncClient() as newcomer:
                    assert (await newcomer.get(f"{example.public}/hello")).status_code == 200
                    assert (await newcomer.get(f"{example.internal}/readyz")).status_code == 200
                sent += 1
        # An old worker ends within GRACEFUL_SECONDS although one request never does.
        assert time.monotonic() - began < 20
        assert (await under_way).json() == "waited"
        cut = await hanging
        assert (cut.status_code, cut.headers["content-type"]) == (503, "application/problem+json")
        assert cut.json()["code"] == "stopping"
        assert cut.json()["request_id"] == cut.headers["x-request-id"]
    assert sent
    assert example.hellos() - before == sent


async def test_a_stopped_service_finishes_answers_until_it_has_drained_and_asks_to_go_elsewhere(
    tmp_path: Path,
) -> None:
    with started(tmp_path) as example:
        async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(40):
            under_way = asyncio.create_task(client.get(f"{example.public}/wait/1"))
            await example.until_served(1)
            example.process.send_signal(signal.SIGTERM)
            while (await client.get(f"{example.internal}/readyz")).status_code != 503:
                await asyncio.sleep(0.02)
            answer = await client.get(f"{example.public}/hello")
            while "connection" not in answer.headers:  # of the other worker, which is told a moment later
                answer = await client.get(f"{example.public}/hello")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert (await under_way).json() == "waited"
            while example.process.poll() is None:
                await asyncio.sleep(0.02)
        assert example.process.returncode == 0
        lines = example.log.read_text().splitlines()
        assert len(lines) > 5
        assert all(json.loads(line)["service"] == "example" for line in lines)  # gunicorn's own among them
        assert [line for line in lines if "Error while" in line] == []


def test_a_service_with_a_broken_setting_says_so_in_one_line_and_does_not_start(tmp_path: Path) -> None:
    example = Example(tmp_path, WORKERS="none")
    assert example.process.wait(30) != 0
    (line,) = example.log.read_text().splitlines()
    assert line.startswith("broken setting: WORKERS: ")


def test_a_service_may_open_as_many_files_as_it_is_let_though_a_shell_gives_it_few(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with started(tmp_path) as example:
            limits = [Path(f"/proc/{pid}/limits").read_text() for pid in example.workers()]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    lines = [line for text in limits for line in text.splitlines() if line.startswith("Max open files")]
    assert [int(line.split()[3]) for line in lines] == [min(hard, 65_536)] * 2


def test_the_kernel_holds_little_of_a_response_that_nobody_reads(tmp_path: Path) -> None:
    with started(tmp_path) as example, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)
        client.connect(("127.0.0.1", int(example.public.rpartition(":")[2])))
        client.sendall(b"GET /pour HTTP/1.1\r\nHost: a\r\n\r\n")
        left = 16 * 2**20  # fast at first, so that the kernel makes room
        while left > 0:
            left -= len(client.recv(2**16))
        said, before = example.metrics / "poured", ""
        while (poured := said.read_text()) != before or not poured:
            before = poured
            time.sleep(0.5)
    unread = (int(poured) << 16) - (16 << 20)
    print(f"{unread // 1024} KiB are on the way")
    assert unread <= 2**20
