"""The gunicorn worker: uvicorn with our limits, which drains before it stops."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from uvicorn import Config, Server
from uvicorn_worker import UvicornWorker

from service_kit import health, logs
from service_kit.http_protocol import BoundedProtocol
from service_kit.settings import ServiceSettings, misspelt

logger = logging.getLogger(__name__)

# Longer than the gateway keeps an idle connection, so that it is never the service that closes first.
KEEP_ALIVE_SECONDS = 75
_LAST_WORD_SECONDS = 0.25
# Python's own (700, 10, 10) looks at all that is held every few thousand requests, and nothing else is done meanwhile.
_COLLECTED_AFTER = (10_000, 20, 50)
# A process gets few by default, 1,024 in most shells and containers: fewer than the connections that we say we take.
_OPEN_FILES = 65_536
_UNSENT_BYTES = 128 * 1024
_DRAIN, _GRACEFUL = "GATEHOUSE_DRAIN_SECONDS", "GATEHOUSE_GRACEFUL_SECONDS"

# Counted by the master at each HUP, seen by all of its workers: one that is older than this has a successor.
_reloads = RawValue("i", 0)


class Worker(UvicornWorker):
    """Subclass it and extend CONFIG_KWARGS to load another HTTP protocol class; `make_server` makes another server."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": BoundedProtocol,
        "ws": "none",
        "proxy_headers": False,  # the client's address is ours to decide, see addresses.py
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "lifespan": "on",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._born = _reloads.value

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        drain, graceful = float(self.cfg.env[_DRAIN]), float(self.cfg.env[_GRACEFUL])
        # After a HUP no master ends a worker that cannot finish, so it ends itself.
        self.config.timeout_graceful_shutdown = max(1, int(graceful - drain - 1))
        server = self.make_server(drain, self._born)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None
        )
        _tune_collector()
        # Not gunicorn's wrappers: uvloop closes those a second time, and gunicorn reports that as an error.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)

    def make_server(self, drain_seconds: float, born: int) -> "DrainingServer":
        return DrainingServer(self.config, drain_seconds, born)


def _tune_collector() -> None:
    """What is loaded now lives as long as the worker: it is looked at once, and never again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)


class DrainingServer(Server):
    """On SIGTERM turns not ready and goes on serving for a while, so that whoever balances stops sending first."""

    def __init__(self, config: Config, drain_seconds: float, born: int) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._born = born
        self._draining = False
        self._notified = asyncio.Event()

    async def main_loop(self) -> None:
        """uvicorn's looks ten times a second whether it has to stop; this one is told, and wakes up once."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._notified.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM drains once; any other signal, or a second one, stops now."""
        if sig != signal.SIGTERM or self._draining:
            self._stop(sig, frame)
            return
        self._draining = True
        # After a HUP the successors serve at the same port: the service as a whole stays ready.
        health.draining.begun = self._born == _reloads.value
        # Every answer from now on asks its client to open its next connection elsewhere. uvicorn makes its default
        # fields anew once a second, out of the encoded ones.
        health.draining.leaving = True
        for fields in (self.config.encoded_headers, self.server_state.default_headers):
            fields.append((b"connection", b"close"))
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop, sig, frame)

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._notified.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody new, and let whoever has just connected say what they want: uvicorn would cut them off."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_WORD_SECONDS)
        await super().shutdown(sockets)


class MasterLogger(glogging.Logger):
    """gunicorn's own lines go where every line goes: `logs.configure` has said where."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True


def gunicorn_options(
    settings: ServiceSettings, service: str, worker_class: str = "service_kit.worker.Worker"
) -> dict[str, Any]:
    """What a service's gunicorn_conf.py puts into its globals: `globals().update(gunicorn_options(settings, "x"))`."""
    logs.configure(settings, service)
    _raise_open_files()
    for variable, near in misspelt(type(settings), os.environ):
        logger.warning("nobody reads %s: did you mean %s?", variable, near)
    folder = _metrics_folder(settings, service)
    health.release.name = settings.release or packaged_release(service)
    return {
        "bind": [f"{settings.bind_host}:{port}" for port in (settings.public_port, settings.internal_port)],
        "workers": settings.workers,
        "worker_class": worker_class,
        "timeout": 30,
        "graceful_timeout": int(settings.graceful_seconds),
        "keepalive": KEEP_ALIVE_SECONDS,
        "backlog": 2048,
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - gunicorn's heartbeat
        "control_socket_disable": True,  # it fails on a read-only root
        "proc_name": service,
        "logger_class": MasterLogger,
        "loglevel": settings.log_level.lower(),
        "on_starting": _forget_last_run,
        "on_reload": _count_reload,
        "when_ready": _bound_unsent,
        "child_exit": _forget_worker,
        "raw_env": [
            f"PROMETHEUS_MULTIPROC_DIR={folder}",
            f"{_DRAIN}={settings.drain_seconds}",
            f"{_GRACEFUL}={settings.graceful_seconds}",
        ],
    }


def _raise_open_files() -> None:
    """As many as this process may have; its workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS takes less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def packaged_release(service: str) -> str:
    """The release where no image says which: the version of the package that is named like the service."""
    try:
        return f"{service}/{version(service)}"
    except PackageNotFoundError:
        return service


def _metrics_folder(settings: ServiceSettings, service: str) -> Path:
    folder = settings.metrics_dir or Path(tempfile.gettempdir()) / f"metrics-{service}-{os.getpid()}"
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    # prometheus_client decides at its import how values are kept.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


def _forget_last_run(_server: object) -> None:
    """What an earlier run counted would be added up again. Not at a HUP: its files are in use."""
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    # prometheus_client's files, and those of workers that count by themselves.
    for pattern in ("*.db", "*-[0-9]*.json"):
        for file in folder.glob(pattern):
            file.unlink()


def _bound_unsent(server: Any) -> None:
    """The kernel holds little of a response that nobody reads, instead of megabytes; connections inherit it."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:  # this system has it
        for listener in server.LISTENERS:
            listener.sock.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)


def _count_reload(_server: object) -> None:
    _reloads.value += 1


def _forget_worker(_server: object, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)
