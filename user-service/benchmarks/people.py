"""Requests to the service's own ASGI app, beside a bare SELECT in the same process, on a real MySQL."""

import asyncio
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import event, select, text
from sqlalchemy.engine import make_url
from starlette.types import ASGIApp, Message

from service_kit import logs
from service_kit.authenticator import Authenticator
from service_kit.testing import TestIssuer
from user_service.config import Settings
from user_service.database import Database, single_engine
from user_service.imports.seeding import seed
from user_service.main import Parts, create_app, make_parts
from user_service.migrations.__main__ import upgrade
from user_service.pagination import encode_cursor
from user_service.users.models import UserRow, first_id, utc_now

AT_ONCE: Final = 16
PER_PAGE: Final = 50
SECONDS: Final = 2.0
DATABASE: Final = "benchmark"
BARE: Final = select(*UserRow.__table__.columns)

ME, BARE_SELECT = "GET /v1/users/me", "bare SELECT by primary key"

Act = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls the app as the server does, without a socket; anything but `expected` ends the run."""

    app: ASGIApp
    token: str

    async def __call__(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes = b"",
        expected: int = 200,
        **headers: str,
    ) -> tuple[dict[bytes, bytes], bytes]:
        sent = {"host": "users", "authorization": f"Bearer {self.token}", **headers}
        if body:
            sent |= {"content-type": "application/json", "content-length": str(len(body))}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        status, head, received = 0, dict[bytes, bytes](), b""

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, head, received
            if message["type"] == "http.response.start":
                status, head = message["status"], dict(message["headers"])
            else:
                received += message.get("body", b"")

        await self.app(scope, receive, send)
        if status != expected:
            raise RuntimeError(f"{method} {path}?{query}: {status} {received[:300]!r}")
        return head, received


async def measure(server: str, count: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="user-service-bench-") as folder:
        async with _stage(server, Path(folder)) as (parts, app, authenticator, issuer):
            seeding = await _seed(parts.database, count)
            ids = await _some_ids(parts.database)
            people = [Caller(app, issuer.token(sub=str(one))) for one in ids]
            admin = Caller(app, issuer.token(roles=["admin"]))
            authenticator.revocations.prove(time.time())
            for person in people:
                await person("GET", "/v1/users/me")  # what is measured is a token seen before
            acts = _acts(parts, people, ids) | {
                f"page: {name}": _page_act(admin, query)
                for name, query in (await _pages(parts, count)).items()
            }
            rates: dict[str, list[float]] = {name: [] for name in acts}
            costs: dict[str, list[float]] = {name: [] for name in acts}
            for number in range(rounds):
                names = list(acts)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    authenticator.revocations.prove(time.time())
                    rate, cost = await _read(acts[name])
                    rates[name].append(rate)
                    costs[name].append(cost)
                    _say(f"round {number + 1} of {rounds}: {name}: {rate:,.0f}/s, {cost:,.0f} us")
            plans = {name: await _plan(parts.database, admin, query) for name, query in QUERIES.items()}
    medians = {name: median(values) for name, values in rates.items()}
    cpu_us = {name: median(values) for name, values in costs.items()}
    return {
        "people": count,
        "seeding_seconds": seeding,
        "rounds": rates,
        "per_second": medians,
        "cpu_us": cpu_us,
        "cpu_us_rounds": costs,
        "plans": plans,
    }


def summary(measured: dict[str, Any]) -> dict[str, float]:
    """The figures that promises are held against: medians of what each round's readings make."""
    rounds, costs = measured["rounds"], measured["cpu_us_rounds"]
    return {
        "me_over_bare_select": _over(rounds, ME, BARE_SELECT),
        "me_over_bare_select_by_cpu": _over(costs, BARE_SELECT, ME),
        "last_page_over_first": _over(rounds, "page: first", "page: last"),
        "last_page_over_first_by_cpu": _over(costs, "page: last", "page: first"),
    }


def _over(rounds: dict[str, list[float]], this: str, that: str) -> float:
    return median(one / other for one, other in zip(rounds[this], rounds[that], strict=True))


def database(server: str) -> str:
    """The URL of the database that `measure` leaves behind with its people."""
    return make_url(server).set(database=DATABASE).render_as_string(hide_password=False)


QUERIES: Final = {
    "all": "",
    "status active": "status=active",
    "status deleted": "status=deleted",
    "role": "role=support",
    "created range": "created_from=2024-01-01T00:00:00Z&created_before=2025-01-01T00:00:00Z",
    "address prefix": "email=grace.hopper.",
    "name prefix": "name=grace%20h",
}


async def _pages(parts: Parts, count: int) -> dict[str, str]:
    """The queries that are timed: the first page, the last, and each filter from its beginning."""
    rest = await parts.database.read(
        lambda connection: connection.execute(
            select(UserRow.id).order_by(UserRow.id.desc()).offset(PER_PAGE).limit(1)
        )
    )
    cursor = encode_cursor(str(rest.scalar_one()))
    return {"first": "", "last": f"cursor={cursor}"} | {
        name: query for name, query in QUERIES.items() if query
    }


def _page_act(admin: Caller, query: str) -> Act:
    async def act(_: int) -> None:
        await admin("GET", "/v1/users", f"limit={PER_PAGE}&{query}")

    return act


def _acts(parts: Parts, people: list[Caller], ids: list[UUID]) -> dict[str, Act]:
    engine = parts.database.engine
    versions = dict.fromkeys(range(len(people)), "")

    async def bare(number: int) -> None:
        async with engine.connect() as connection:
            (await connection.execute(BARE.where(UserRow.id == ids[number % len(ids)]))).one()

    async def me(number: int) -> None:
        await people[number % len(people)]("GET", "/v1/users/me")

    async def rename(number: int) -> None:
        person = number % len(people)
        if not versions[person]:
            head, _ = await people[person]("GET", "/v1/users/me")
            versions[person] = head[b"etag"].decode()
        body = json.dumps({"name": f"Name {number}"}).encode()
        match, versions[person] = versions[person], ""
        head, _ = await people[person]("PATCH", "/v1/users/me", body=body, if_match=match)
        versions[person] = head[b"etag"].decode()

    return {BARE_SELECT: bare, ME: me, "PATCH /v1/users/me": rename}


async def _read(act: Act) -> tuple[float, float]:
    """Per second, with AT_ONCE of them under way all the time; and this process's CPU microseconds for each."""
    done, began, used = 0, time.perf_counter(), time.process_time()

    async def keep_on() -> None:
        nonlocal done
        while time.perf_counter() - began < SECONDS:
            done += 1
            await act(done)

    await asyncio.gather(*(keep_on() for _ in range(AT_ONCE)))
    return done / (time.perf_counter() - began), (time.process_time() - used) / done * 1e6


async def _plan(database: Database, admin: Caller, query: str) -> list[dict[str, Any]]:
    """How MySQL finds the page's rows, by the very statement that the service sent."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await admin("GET", "/v1/users", f"limit={PER_PAGE}&{query}")
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = next(one for one in sent if "FROM users" in one[0])
    explained = await database.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {statement}", parameters)
    )
    wanted = ("table", "type", "key", "rows", "Extra")
    return [{name: row[name] for name in wanted} for row in explained.mappings()]


async def _seed(database: Database, count: int) -> float:
    began = time.perf_counter()

    def progress(made: int) -> None:
        if made % (count // 10) == 0:
            _say(f"{made:,} of {count:,} people")

    await seed(database, count, progress)
    seconds = time.perf_counter() - began
    await database.read(lambda connection: connection.execute(text("ANALYZE TABLE users, user_roles")))
    return seconds


async def _some_ids(database: Database) -> list[UUID]:
    since = first_id(utc_now() - timedelta(days=400))
    found = await database.read(
        lambda connection: connection.execute(
            select(UserRow.id).where(UserRow.id > since, UserRow.status == "active").limit(AT_ONCE * 8)
        )
    )
    return list(found.scalars())


@asynccontextmanager
async def _stage(
    server: str, folder: Path
) -> AsyncIterator[tuple[Parts, ASGIApp, Authenticator, TestIssuer]]:
    """The service as `serve()` makes it, access log and metrics on; its lines go nowhere."""
    url = database(server)
    await _make_database(server)
    await asyncio.to_thread(upgrade, make_url(url))
    settings = Settings(
        secrets_dir=folder,
        database_url=url,
        database_pool_size=AT_ONCE,
        database_deadline_seconds=30,
        public_url="http://localhost:8080",
        jwks_url="http://localhost:1/jwks.json",
        revocations_redis_url="redis://localhost:1/0",
        events_redis_url="redis://localhost:1/0",
        idempotency_key=SecretStr("a server key of the benchmark"),
        avatars_dir=folder,
        changes_per_hour=10_000,
        log_format="json",
    )
    logs.configure(settings, "user-service")
    nowhere = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(nowhere)
    issuer = TestIssuer()

    async def fetch_keys() -> dict[str, Any]:
        return issuer.jwks()

    authenticator = Authenticator(settings, "user-service", fetch_keys=fetch_keys)
    parts = make_parts(settings)
    try:
        yield parts, create_app(settings, parts, authenticator), authenticator, issuer
    finally:
        await parts.close()


async def _make_database(server: str) -> None:
    maintenance = single_engine(make_url(server))
    async with maintenance.connect() as connection:
        await connection.execute(text(f"DROP DATABASE IF EXISTS {DATABASE}"))
        await connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    await maintenance.dispose()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
