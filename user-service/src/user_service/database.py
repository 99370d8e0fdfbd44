"""The engine, and the one transaction per request."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import asyncmy
from prometheus_client import Gauge
from sqlalchemy import ColumnElement, delete, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from service_kit.problems import Problem

T = TypeVar("T")
P = ParamSpec("P")
Work = Callable[Concatenate[AsyncConnection, P], Awaitable[T]]

log = logging.getLogger(__name__)

DEADLOCK: Final = 1213
LOCK_WAIT_TIMEOUT: Final = 1205
ATTEMPTS: Final = 4

# For the network alone; the server's own words are bounded by the time for reading.
CONNECT_SECONDS: Final = 0.8

IN_USE = Gauge(
    "database_connections_in_use", "Connections that work is being done on", multiprocess_mode="livesum"
)


class DatabaseUnavailable(Problem):
    """The database did not answer, or not in time; nothing is known to have changed."""

    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable"
    title = "The database cannot be reached right now"
    detail = "Nothing is known to have changed. Wait as long as `Retry-After` says."


class DatabaseBusy(Problem):
    """Another transaction held what this one needed for too long; nothing changed."""

    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "database_busy"
    title = "The database is busy with a conflicting change"
    detail = "Nothing was changed. Wait as long as `Retry-After` says."


@dataclass(slots=True)
class _Patience:
    """The seconds that a request may still wait for the database."""

    left: float


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


class Database:
    """Runs units of work, each against one connection.

    A unit of work is a function whose first parameter is the connection; it is named here, and its other arguments
    stand behind it: `await database.read(repository.find, user_id)`.

    Connections are in autocommit mode: a READ COMMITTED read gains nothing from a transaction and would
    pay a round trip for its end; a transaction says BEGIN and COMMIT itself.
    """

    def __init__(self, engine: AsyncEngine, deadline: float = 2.5) -> None:
        self.engine = engine
        self.committed = asyncio.Event()  # set with each commit; cleared by whoever looks for what it brought
        self._deadline = deadline
        self._begin = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"
        pool = engine.sync_engine.pool
        if isinstance(pool, QueuePool):
            event.listen(pool, "checkout", lambda *_: IN_USE.set(pool.checkedout()))
            event.listen(pool, "checkin", lambda *_: IN_USE.set(pool.checkedout() - 1))

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which changes nothing; once more when its connection turns out to be dead."""
        return await self._within_deadline(
            self._reading, lambda connection: work(connection, *args, **kwargs)
        )

    async def transaction(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction and commit it before returning.

        `work` may run several times: after a deadlock, or on a connection that was already dead, the
        whole transaction starts again. So it calls nothing outside the database and hashes nothing.
        """
        return await self._within_deadline(
            self._transacting, lambda connection: work(connection, *args, **kwargs)
        )

    def begin_request(self) -> None:
        """From here on all units of work of this request share one deadline; hashing in between is not counted."""
        _patience.set(_Patience(self._deadline))

    async def close(self) -> None:
        await self.engine.dispose()

    async def _reading(self, work: Work[[], T]) -> T:
        async with self.engine.connect() as connection:
            return await work(connection)

    async def _transacting(self, work: Work[[], T]) -> T:
        async with self.engine.connect() as connection:
            await connection.exec_driver_sql(self._begin)
            try:
                result = await work(connection)
            except BaseException as error:
                await _abandon(connection, error)
                raise
            try:
                await connection.exec_driver_sql("COMMIT")
            except BaseException as error:
                # It may or may not have been committed: never run it again on our own account.
                await _discard(connection)
                if isinstance(error, DBAPIError):
                    raise DatabaseUnavailable(headers={"Retry-After": "1"}) from error
                raise
            self.committed.set()
            return result

    async def _within_deadline(self, run: Callable[[Work[[], T]], Awaitable[T]], work: Work[[], T]) -> T:
        patience = _patience.get() or _Patience(self._deadline)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(patience.left):
                for attempt in range(1, ATTEMPTS):
                    try:
                        return await run(work)
                    except DBAPIError as error:
                        if not _worth_another_try(error):
                            raise
                        log.info("transaction starts again, reason=%s attempt=%d", reason(error), attempt)
                    await asyncio.sleep(random.uniform(0.5, 1.5) * 0.01 * 2**attempt)  # noqa: S311
                return await run(work)
        except (OperationalError, InterfaceError) as error:
            log.warning("database refused, reason=%s", reason(error))
            problem = DatabaseBusy if error_code(error) == LOCK_WAIT_TIMEOUT else DatabaseUnavailable
            raise problem(headers={"Retry-After": "1"}) from error
        except (TimeoutError, PoolTimeout, OSError) as error:
            log.warning("database did not answer in time, reason=%s", type(error).__name__)
            raise DatabaseUnavailable(headers={"Retry-After": "1"}) from error
        finally:
            patience.left -= asyncio.get_running_loop().time() - began


def error_code(error: DBAPIError) -> int | None:
    """MySQL's number for the error; None where the database numbers nothing."""
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def reason(error: DBAPIError) -> str:
    """A short name for a log line. Never str(error): that carries the statement's values."""
    if error.connection_invalidated:
        return "connection_lost"
    code = error_code(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


async def delete_batch(
    connection: AsyncConnection, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int
) -> int:
    """Remove at most `limit` old rows by their keys, so that no others are locked; how many went."""
    keys = (await connection.execute(select(key).where(old).limit(limit))).scalars().all()
    if keys:
        await connection.execute(delete(key.class_).where(key.in_(keys)))
    return len(keys)


def _worth_another_try(error: DBAPIError) -> bool:
    return error.connection_invalidated or error_code(error) == DEADLOCK


async def _abandon(connection: AsyncConnection, error: BaseException) -> None:
    if isinstance(error, Exception) and not connection.invalidated:
        with suppress(DBAPIError):
            await connection.exec_driver_sql("ROLLBACK")
            return
    await _discard(connection)


async def _discard(connection: AsyncConnection) -> None:
    if not connection.invalidated:
        await connection.invalidate()


def create_engine(
    url: URL, *, pool_size: int = 10, pool_timeout: float = 2.0, deadline: float = 2.5
) -> AsyncEngine:
    """An engine whose connections are in autocommit mode and never wait without a bound.

    `deadline` is that of a unit of work; no statement outlives it on the server for long.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": Connecting(),
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": deadline + 0.5,
            # MAX_EXECUTION_TIME covers SELECT only; writes are bounded by the lock wait and the deadline.
            "init_command": (
                "SET SESSION transaction_isolation = 'READ-COMMITTED', "
                "SESSION innodb_lock_wait_timeout = 1, SESSION lock_wait_timeout = 2, "
                f"SESSION max_execution_time = {deadline * 1000:.0f}, SESSION time_zone = '+00:00', "
                "SESSION sql_mode = 'TRADITIONAL,NO_ENGINE_SUBSTITUTION'"
            ),
        },
    )


def single_engine(url: URL) -> AsyncEngine:
    """An engine that keeps no connection and sets nothing, for what is no service: migrations, tests."""
    mysql = url.get_backend_name() == "mysql"
    return create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"async_creator_fn": connect} if mysql else {},
    )


async def connect(*arguments: Any, **options: Any) -> Any:
    """asyncmy's, with the password in UTF-8 as MySQL's own clients send it; asyncmy's is Latin-1, or an error."""
    if isinstance(password := options.get("password"), str):
        options["password"] = password.encode()
    return await asyncmy.connect(*arguments, **options)


class Connecting:
    """Opens connections. While the server is silent one attempt a second finds out whether it still is.

    The others fail at once: callers would wait in line for connections that take their time to fail.
    """

    def __init__(self) -> None:
        self._next_try = 0.0  # not before then, if not 0: it is silent

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        if began < self._next_try:
            raise OperationalError("connect", None, TimeoutError("the server was silent a moment ago"))
        if self._next_try:
            self._next_try = began + 1.0
        try:
            connection = await connect(*arguments, **options)
        except asyncmy.errors.OperationalError:
            if time.monotonic() - began > CONNECT_SECONDS / 2:  # no refusal: silence
                self._next_try = time.monotonic() + 1.0
            raise
        except RuntimeError as error:
            # asyncmy's word, under uvloop, for a connection that the server closed while it was being made.
            raise OperationalError("connect", None, error) from error
        self._next_try = 0.0
        return connection


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
        connect_args={"timeout": 2.0},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    return engine


def database_url(url: str, password: str | None) -> URL:
    """The configured URL with the password from its secret file; an SQLite file has no use for one."""
    parsed = make_url(url)
    return parsed.set(password=password) if password and parsed.get_backend_name() != "sqlite" else parsed
