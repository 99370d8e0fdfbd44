"""The gunicorn worker: uvicorn with our limits, which drains before it stops."""

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn import Config, Server
from uvicorn_worker import UvicornWorker

from service_kit import health
from service_kit.settings import ServiceSettings

# Longer than the gateway keeps an idle connection, so that it is never the service that closes first.
KEEP_ALIVE_SECONDS = 75
_DRAIN = "GATEHOUSE_DRAIN_SECONDS"


class Worker(UvicornWorker):
    """Subclass it and extend CONFIG_KWARGS to load another HTTP protocol class."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "proxy_headers": False,  # the client's address is ours to decide, see addresses.py
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "lifespan": "on",
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(self.config, float(self.cfg.env[_DRAIN]))
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None
        )
        await server.serve(sockets=self.sockets)
        if not server.started:
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)


class DrainingServer(Server):
    """On SIGTERM turns not ready and goes on serving for a while, so that whoever balances stops sending first."""

    def __init__(self, config: Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM drains once; any other signal, or a second one, stops now."""
        if sig != signal.SIGTERM or health.draining.begun:
            super().handle_exit(sig, frame)
            return
        health.draining.begun = True
        # Every answer from now on asks its client to open its next connection elsewhere.
        self.server_state.default_headers.append((b"connection", b"close"))
        asyncio.get_running_loop().call_later(self._drain_seconds, super().handle_exit, sig, frame)


def gunicorn_options(
    settings: ServiceSettings, service: str = "service", worker_class: str = "service_kit.worker.Worker"
) -> dict[str, Any]:
    """What a service's gunicorn_conf.py puts into its globals: `globals().update(gunicorn_options(settings, "x"))`."""
    folder = _metrics_folder(settings, service)
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
        "child_exit": _forget_worker,
        "raw_env": [f"PROMETHEUS_MULTIPROC_DIR={folder}", f"{_DRAIN}={settings.drain_seconds}"],
    }


def _metrics_folder(settings: ServiceSettings, service: str) -> Path:
    """An empty folder for the workers' metric files; what an earlier run left would be added up again."""
    folder = settings.metrics_dir or Path(tempfile.gettempdir()) / f"metrics-{service}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    # prometheus_client decides at its import how values are kept.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


def _forget_worker(_server: object, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)
