"""The service as a process of its own, and a MySQL of its own that tests may break."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.testing import TestIssuer, free_port
from user_service.database import single_engine

READY_SECONDS = 20.0
MAKE_DATABASE = Path(__file__).parents[2] / "deploy" / "compose" / "make_database"


class MySQLServer:
    """A container whose data outlives its process: killed and started again it holds what was committed."""

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(16)
        self._name = f"user-service-test-{secrets.token_hex(4)}"
        docker(
            *("run", "--detach", "--name", self._name, "--publish", f"127.0.0.1:{self.port}:3306"),
            *("--env", f"MYSQL_ROOT_PASSWORD={self._password}", "mysql:9.7", "mysqld", "--mysqlx=OFF"),
        )

    def url(self, database: str = "mysql", port: int | None = None) -> URL:
        return URL.create(
            "mysql+asyncmy", "root", self._password, "127.0.0.1", port or self.port, database=database
        )

    async def ask(self, statement: str) -> None:
        engine = single_engine(self.url())
        try:
            async with asyncio.timeout(3), engine.begin() as connection:
                await connection.execute(text(statement))
        finally:
            await engine.dispose()

    async def scalar(self, database: str, query: str) -> Any:
        engine = single_engine(self.url(database))
        try:
            async with engine.connect() as connection:
                return (await connection.execute(text(query))).scalar()
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Inside the block the one connection that is allowed is ours."""
        engine = single_engine(self.url())
        async with engine.connect() as connection:
            await connection.execute(text("SET GLOBAL max_connections = 1"))
            await self._kill_others(connection)
            try:
                yield
            finally:
                await connection.execute(text("SET GLOBAL max_connections = 151"))
        await engine.dispose()

    async def kill_connections(self) -> int:
        """End every connection but the asking one; how many that were."""
        engine = single_engine(self.url())
        async with engine.connect() as connection:
            killed = await self._kill_others(connection)
        await engine.dispose()
        return killed

    async def _kill_others(self, connection: AsyncConnection) -> int:
        query = text(
            "SELECT id FROM performance_schema.processlist "
            "WHERE id <> CONNECTION_ID() AND host LIKE '%:%' AND command <> 'Killed'"
        )
        found = (await connection.execute(query)).scalars().all()
        for one in found:
            with suppress(OperationalError):  # it may have ended by itself
                await connection.execute(text(f"KILL {one}"))
        return len(found)

    async def ready(self) -> None:
        """Wait until it answers over TCP, which the server that only initialises does not."""
        async with asyncio.timeout(90):
            while True:
                try:
                    return await self.ask("SELECT 1")
                except Exception:  # noqa: BLE001 - whatever a server that is starting does
                    await asyncio.sleep(0.1)

    def kill(self) -> None:
        docker("kill", self._name)

    def start(self) -> None:
        docker("start", self._name)

    def restart(self) -> None:
        docker("restart", self._name)

    def pause(self) -> None:
        docker("pause", self._name)

    def resume(self) -> None:
        docker("unpause", self._name)

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self._name)


class MySQLDatabase:
    """A database on a server that runs, made and shared out as deploy/compose/make_database does it."""

    def __init__(self, root: URL, secrets_dir: Path, password: str | None = None) -> None:
        self._root = root
        self._secrets = secrets_dir
        self.name = f"test_{secrets.token_hex(6)}"
        password = password or secrets.token_hex(16)
        self.server = root.set(username=self.name, password=password, database=self.name)
        self.owner = self.server.set(username=f"{self.name}_owner")
        secrets_dir.mkdir(exist_ok=True)
        for user in (self.name, f"{self.name}_owner"):
            (secrets_dir / f"{user}_password").write_text(password)
        self.make()

    def make(self) -> None:
        """As often as wanted."""
        command = ["bash", str(MAKE_DATABASE), "--print", self.name, str(self._secrets)]
        printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
        asyncio.run(statements(self._root, printed.rstrip(";\n").split(";\n")))

    def remove(self) -> None:
        users = f"{self.name}, {self.name}_owner"
        asyncio.run(statements(self._root, [f"DROP DATABASE {self.name}", f"DROP USER {users}"]))


async def statements(url: URL, each: Sequence[str]) -> None:
    engine = single_engine(url)
    try:
        async with engine.connect() as connection:
            for statement in each:
                await connection.exec_driver_sql(statement.replace("%", "%%"))
    finally:
        await engine.dispose()


class Wire:
    """A TCP proxy before the database: delays what passes, or loses the answer to a COMMIT on its way back."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.delay = 0.0
        self.lose_commits = False
        self.lost = 0
        self._to = port
        self._ends: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for end in tuple(self._ends):
                end.transport.abort()
            await until(lambda: not self._ends, 5)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        database, upstream = await asyncio.open_connection("127.0.0.1", self._to)
        ends = {writer, upstream}
        self._ends |= ends
        ways = (self._carry(reader, upstream, writer), self._carry(database, writer, upstream))
        await asyncio.gather(*ways)
        self._ends -= ends

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        begun = False
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                # The driver commits once while it connects, too.
                begun = begun or data.endswith(b"BEGIN")
                if self.lose_commits and begun and data.endswith(b"COMMIT"):
                    self.lost += 1
                    back.transport.abort()
                writer.write(data)
                await writer.drain()
        writer.close()


def docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


@contextmanager
def keys_published(issuer: TestIssuer) -> Iterator[str]:
    """The URL of the issuer's key set."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.jwks()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def begin_revocations(redis_url: str) -> None:
    """What auth-service writes when it starts for the first time."""
    redis = Redis.from_url(redis_url)
    redis.set("auth:epoch", "0" * 32)
    redis.xadd("auth:revocations", {"kind": "start"})
    redis.close()


class RunningService:
    """gunicorn with one worker under uvloop, as it is deployed."""

    def __init__(self, environment: dict[str, str], folder: Path, issuer: TestIssuer) -> None:
        self.public, self.internal = free_port(), free_port()
        self._issuer = issuer
        self._log = folder / f"service-{self.public}.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PUBLIC_PORT": str(self.public),
            "INTERNAL_PORT": str(self.internal),
            "METRICS_DIR": str(folder / f"metrics-{self.public}"),
            "AVATARS_DIR": str(folder / "avatars"),
            "PUBLIC_URL": issuer.url,
            "DRAIN_SECONDS": "0",
            "LOG_FORMAT": "json",
        } | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:user_service.gunicorn_conf"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "user_service.main:serve()"],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """To gunicorn and its worker alike."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.send(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """Without a word, as a machine dies."""
        assert self._process is not None
        self.send(signal.SIGKILL)
        self._process.wait(5)

    def memory(self) -> int:
        """The bytes that its worker holds in memory (Linux)."""
        return self._memory("VmRSS:")

    def peak_memory(self) -> int:
        """The most bytes that its worker has held in memory at once (Linux)."""
        return self._memory("VmHWM:")

    def _memory(self, member: str) -> int:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        (worker,) = children.split()
        status = Path(f"/proc/{worker}/status").read_text()
        return 1024 * int(status.partition(member)[2].split()[0])

    def log(self) -> str:
        return self._log.read_text()

    def when(self, message: str) -> str:
        """The time of the newest log line that says this; times sort as text."""
        lines = [json.loads(line) for line in self.log().splitlines() if message in line]
        return max((line["time"] for line in lines), default="")

    def client(self, token: str | None = None, *, internal: bool = False) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        port = self.internal if internal else self.public
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, limits=limits
        )

    def client_of(self, person: str, **claims: Any) -> httpx.AsyncClient:
        return self.client(self._issuer.token(sub=person, **claims))

    async def ready(self, within: float = READY_SECONDS) -> float:
        """Wait until it says that it is ready; how long that took."""
        async with self.client(internal=True) as client:
            return await until(lambda: answers(client, "/readyz", 200), within)


async def answers(client: httpx.AsyncClient, path: str, status: int) -> bool:
    try:
        return (await client.get(path)).status_code == status
    except httpx.TransportError:
        return False


async def until(condition: Callable[[], object], within: float) -> float:
    """Ask again until it is so, and fail after `within` seconds; how long that took."""
    began = time.monotonic()
    while True:
        response = condition()
        if await response if asyncio.iscoroutine(response) else response:
            return time.monotonic() - began
        assert time.monotonic() - began < within, f"not so after {within} s"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(
    database: URL, redis_url: str, folder: Path, issuer: TestIssuer, **settings: str
) -> AsyncIterator[RunningService]:
    """A service on this database, ready."""
    secrets_dir = folder / f"secrets-{secrets.token_hex(4)}"
    secrets_dir.mkdir()
    (secrets_dir / "idempotency_key").write_text(secrets.token_hex(16))
    with keys_published(issuer) as jwks_url:
        environment = {
            "DATABASE_URL": database.render_as_string(hide_password=False),
            "EVENTS_REDIS_URL": redis_url,
            "REVOCATIONS_REDIS_URL": redis_url,
            "JWKS_URL": jwks_url,
            "SECRETS_DIR": str(secrets_dir),
        }
        service = RunningService({**environment, **settings}, folder, issuer)
        service.start()
        try:
            await service.ready()
            yield service
        finally:
            try:
                service.stop()
            finally:
                print(service.log())  # pytest shows it when the test fails
