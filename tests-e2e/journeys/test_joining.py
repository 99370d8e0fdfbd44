"""A service joins what `make run` has started, changes and leaves; two systems beside each other never meet."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gatehouse_e2e.api import Api, Person, Refused
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, require_quiet
from gatehouse_e2e.systems import Embedded, System, copy_checkout, run
from gatehouse_e2e.waiting import until

pytestmark = pytest.mark.full

ROUNDS = 10
OVERLAPPING = '[[routes]]\nname = "thief"\npath = "/v1/users/me"\nmethods = ["GET"]\n'


@pytest.fixture
def checkout(system: System, tmp_path: Path) -> Path:
    if not isinstance(system, Embedded):
        pytest.skip("it is about the system that `make run` starts")
    return copy_checkout(system.checkout, tmp_path / "checkout")


@contextmanager
def started(checkout: Path, **settings: str) -> Iterator[Embedded]:
    system = Embedded.start(checkout, **settings)
    try:
        yield system
    finally:
        system.stop()


def newcomer(system: Embedded) -> Person:
    people = People(system.url)
    try:
        return people.signed_in()
    finally:
        people.close()


@contextmanager
def asked_all_the_time(system: Embedded, person: Person) -> Iterator[list[int | str]]:
    """What somebody else gets meanwhile."""
    seen: list[int | str] = []
    done = threading.Event()

    def ask() -> None:
        with Api(system.url) as api:
            while not done.is_set():
                try:
                    seen.append(api.me(person.tokens).status_code)
                except Refused as refused:
                    seen.append(refused.status)
                except httpx.HTTPError as error:
                    seen.append(repr(error))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in asking:
            thread.join()


def test_a_service_joins_changes_and_leaves_and_nobody_else_notices(
    checkout: Path, promise: PromiseFixture
) -> None:
    with started(checkout, RELOAD="") as system:
        person = newcomer(system)
        orders = f"{system.url}/v1/orders"
        with asked_all_the_time(system, person) as seen, httpx.Client() as client:

            def status() -> int:
                return client.get(orders).status_code

            assert status() == 404
            run(["make", "service", "NAME=orders"], cwd=checkout, seconds=120)
            promise(
                "embedded: a new service is served", until(lambda: status() == 401, 60, "served"), at_most=15
            )

            (checkout / "orders/routes/thief.toml").write_text(OVERLAPPING)
            until(lambda: "overlap" in system.logs()["system"], 20, "the overlap told", every=0.2)
            assert status() == 401
            (checkout / "orders/routes/thief.toml").unlink()

            shutil.move(checkout / "orders", checkout.parent / "gone")
            promise(
                "embedded: a service that has gone is a 404",
                until(lambda: status() == 404, 20, "gone"),
                at_most=5,
            )
            until(lambda: "orders has left" in system.logs()["system"], 20, "left", every=0.2)
    assert set(seen) == {200}
    promise("embedded: others' requests while one joins and leaves", len(seen), at_least=500, unit="")


HELLO = """
from fastapi import APIRouter

router = APIRouter()


@router.get("/v1/orders/hello")
async def hello() -> str:
    return "{}"
"""
HELLO_ROUTE = '[[routes]]\nname = "hello"\npath = "/v1/orders/hello"\nmethods = ["GET"]\naccess = "public"\n'


def test_a_change_under_reload_is_served_within_two_seconds(checkout: Path, promise: PromiseFixture) -> None:
    require_quiet(120)
    run(["make", "service", "NAME=orders"], cwd=checkout, seconds=120)
    package = checkout / "orders/src/orders"
    main = (package / "main.py").read_text()
    main = main.replace("from orders import __version__", "from orders import __version__, hello")
    (package / "main.py").write_text(main.replace("ROUTERS: Final = (", "ROUTERS: Final = (hello.router, "))
    (package / "hello.py").write_text(HELLO.format(0))
    (checkout / "orders/routes/hello.toml").write_text(HELLO_ROUTE)
    with started(checkout, RELOAD="orders") as system, httpx.Client() as client:
        answers = []

        def says(number: int) -> bool:
            answers.append(client.get(f"{system.url}/v1/orders/hello"))
            return answers[-1].is_success and answers[-1].json() == str(number)

        until(lambda: says(0), 20, "served")
        answers.clear()
        longest = 0.0
        for number in range(1, 4):
            (package / "hello.py").write_text(HELLO.format(number))
            longest = max(longest, until(lambda number=number: says(number), 30, "the change served"))  # type: ignore[misc]
    assert {answer.status_code for answer in answers} == {200}
    promise("embedded, RELOAD: a change is served", longest, at_most=2)


def test_two_systems_from_two_checkouts_started_at_the_same_moment_never_meet(
    checkout: Path, tmp_path: Path
) -> None:
    checkouts = [checkout, copy_checkout(checkout, tmp_path / "other")]
    states = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(ROUNDS):
            starting = [
                threads.submit(Embedded.start, place, VAR=str(state))
                for place, state in zip(checkouts, states, strict=True)
            ]
            systems = [each.result() for each in starting]
            try:
                for one, other in (systems, systems[::-1]):
                    person = newcomer(one)
                    with Api(one.url) as here, Api(other.url) as there:
                        assert here.me(person.tokens).json()["email"] == person.email
                        with pytest.raises(Refused, match="401"):
                            there.me(person.tokens)
            finally:
                list(threads.map(Embedded.stop, systems))
