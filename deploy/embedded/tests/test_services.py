"""Yours come, go, change and fail while everybody else serves."""

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT, Checkout, get

from parts import claim
from redis_servers import knows


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    yield made
    made.stop()


def pid_of(checkout: Checkout, name: str) -> int:
    """The youngest process that serves it."""
    found = subprocess.run(
        ["pgrep", "-nf", f"{checkout.root}/{name}/.venv/bin/gunicorn"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


def test_a_service_that_comes_is_published_when_it_is_ready_and_nothing_else_is_touched(
    checkout: Checkout,
) -> None:
    checkout.started()
    before = {name: pid_of(checkout, name) for name in ("gateway", "auth-service", "user-service")}
    checkout.add("orders")
    checkout.until(lambda: (checkout.var / "routes/orders").is_dir(), "published")
    assert "orders serves\n" in checkout.log()
    assert get(checkout.upstream("orders")) == "one"
    assert {name: pid_of(checkout, name) for name in before} == before
    checkout.add("payments", says="unready")
    time.sleep(4)
    assert not (checkout.var / "routes/payments").exists()


def test_one_that_goes_takes_its_routes_with_it_first(checkout: Checkout) -> None:
    checkout.add("orders")
    checkout.started()
    upstream = checkout.upstream("orders")
    checkout.remove("orders")
    checkout.until(lambda: not (checkout.var / "routes/orders").exists(), "withdrawn")
    assert get(upstream) == "one"
    checkout.until(lambda: "orders has left\n" in checkout.log(), "gone")
    assert "refused" in get(upstream)
    assert get(checkout.url()) == "one"


def test_one_that_dies_is_started_again_after_pauses_that_grow_and_ends_nobody(checkout: Checkout) -> None:
    checkout.add("orders", says="dies")
    checkout.started()
    checkout.until(
        lambda: "orders stopped by itself (exit code 1): no such setting" in checkout.log(), "told"
    )
    checkout.until(lambda: "started again in 4 s" in checkout.log(), "patient")
    assert checkout.log().index("again in 1 s") < checkout.log().index("again in 2 s")
    assert "refused" in get(checkout.upstream("orders")), "nobody waits for it"
    checkout.change("orders", "mended")
    checkout.until(lambda: get(checkout.upstream("orders")) == "mended", "served", seconds=3)
    os.kill(pid_of(checkout, "orders"), signal.SIGKILL)
    checkout.until(lambda: "orders stopped by itself (SIGKILL)" in checkout.log(), "told")
    checkout.until(lambda: get(checkout.upstream("orders")) == "mended", "served again")
    assert checkout.ended() is None


def test_one_of_gatehouses_own_that_dies_ends_it(checkout: Checkout) -> None:
    checkout.started()
    os.kill(pid_of(checkout, "auth-service"), signal.SIGKILL)
    while checkout.ended() is None:
        time.sleep(0.05)
    assert checkout.ended() == 1
    assert "auth-service stopped by itself (SIGKILL)" in checkout.log()


@pytest.mark.parametrize("routes", ["[[routes]", "\x00"])
def test_one_with_routes_that_are_no_toml_is_named_and_takes_down_nobody(
    checkout: Checkout, routes: str
) -> None:
    checkout.add("orders", routes=routes)
    checkout.started()
    assert "routes of orders refused" in checkout.log()
    assert not (checkout.var / "routes/orders").exists()
    (checkout.root / "orders/routes/all.toml").write_text("[[routes]]\nname = 'a'\n")
    checkout.until(lambda: (checkout.var / "routes/orders").is_dir(), "published when they are mended")


def test_routes_that_change_are_published_anew_with_what_tools_wrote(checkout: Checkout) -> None:
    checkout.started()
    folder = checkout.var / "routes/user-service"
    stamp, upstreams = (folder / "published").read_text(), (folder / "upstreams.toml").read_text()
    (checkout.root / "user-service/routes/more.toml").write_text("[[routes]]\nname = 'more'\n")
    checkout.until(lambda: (folder / "more.toml").is_file(), "published")
    assert (folder / "published").read_text() == stamp
    assert (folder / "upstreams.toml").read_text() == upstreams


def test_what_an_earlier_start_published_is_gone_or_has_todays_ports(checkout: Checkout) -> None:
    for name in ("orders", "payments"):
        checkout.add(name)
    checkout.started()
    former = checkout.upstream("orders")
    checkout.stop()
    checkout.remove("payments")
    checkout.start()
    checkout.until(lambda: "secrets: 0 made" in checkout.log(), "under way")
    checkout.until(lambda: not (checkout.var / "routes/payments").exists(), "withdrawn")
    checkout.until(lambda: "Gatehouse is up: " in checkout.log(), "up")
    assert checkout.upstream("orders") != former
    assert get(checkout.upstream("orders")) == "one"


def test_a_change_under_reload_replaces_that_service_alone_and_turns_nobody_away(checkout: Checkout) -> None:
    checkout.add("orders")
    checkout.started(RELOAD="orders")
    others = {name: pid_of(checkout, name) for name in ("gateway", "auth-service", "user-service")}
    upstream = checkout.upstream("orders")
    seen: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.append(get(upstream))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for says in ("two", "three"):
            checkout.change("orders", says)
            checkout.until(lambda says=says: seen[-1:] == [says], says)  # type: ignore[misc]
    finally:
        done.set()
        asking.join()
    assert set(seen) == {"one", "two", "three"}
    assert {name: pid_of(checkout, name) for name in others} == others


def test_code_that_cannot_start_leaves_the_former_in_its_place(checkout: Checkout) -> None:
    checkout.started(RELOAD="user-service")
    checkout.change("user-service", "dies")
    checkout.until(lambda: "no such setting; what served before goes on" in checkout.log(), "told")
    assert get(checkout.upstream("user-service")) == "one"
    checkout.change("user-service", "two")
    checkout.until(lambda: get(checkout.upstream("user-service")) == "two", "mended")


def test_a_service_that_reload_names_and_that_is_not_there_is_told(checkout: Checkout) -> None:
    checkout.start(RELOAD="order")
    while checkout.ended() is None:
        time.sleep(0.05)
    assert "RELOAD=order: there is no such service" in checkout.log()


def test_a_port_that_was_claimed_is_nobody_elses() -> None:
    with claim() as held:
        thief = (
            "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
            f"s.bind(('127.0.0.1', {held.getsockname()[1]}))"
        )
        done = subprocess.run([sys.executable, "-c", thief], capture_output=True, text=True, check=False)
    assert "Address already in use" in done.stderr


THIEF = """
import socket, sys, tempfile
from pathlib import Path
sys.path.insert(0, {here!r})
import redis_servers
from supervisor import Supervisor

taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
ports = [each.getsockname()[1] for each in taken]
free = redis_servers.claim
class Taken:
    def __init__(self, port): self.port = port
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def getsockname(self): return "127.0.0.1", self.port
redis_servers.claim = lambda: Taken(ports.pop()) if ports else free()
with tempfile.TemporaryFile() as lock, Supervisor(keep_open=lock.fileno()) as supervisor:
    port = redis_servers.start_redis(supervisor, Path({var!r}), "redis")
    print("port", port, port in [each.getsockname()[1] for each in taken])
"""


def test_redis_gets_another_port_when_somebody_was_quicker(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    subprocess.run([sys.executable, ROOT / "deploy/compose/make_secrets.py", secrets], check=True)
    source = THIEF.format(here=str(ROOT / "deploy/embedded"), var=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.endswith(" False\n"), done.stdout + done.stderr


def test_two_systems_beside_each_other_know_their_own_servers_alone(tmp_path: Path) -> None:
    systems = [Checkout(tmp_path / name) for name in ("one", "two")]
    try:
        for system in systems:
            system.start()
        for system in systems:
            system.until(lambda system=system: "Gatehouse is up: " in system.log(), "up")  # type: ignore[misc]
        one, two = (
            tomllib.loads((each.var / "routes/auth-service/upstreams.toml").read_text()) for each in systems
        )
        assert not set(one["stable"] + one["internal"]) & set(two["stable"] + two["internal"])
        for system, other in (systems, systems[::-1]):
            password = (system.var / "secrets/redis/health_password").read_text()
            ports = [redis_port(each) for each in (system, other)]
            assert [knows(port, password) for port in ports] == [True, False]
    finally:
        for system in systems:
            system.stop()


def redis_port(system: Checkout) -> int:
    environments = (system.var / "environments.json").read_text()
    return int(environments.partition('"REDIS_URL": "redis://127.0.0.1:')[2].partition("/")[0])
