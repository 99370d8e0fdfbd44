"""Run the whole of Gatehouse on this machine: the three services, two Redis servers and a mail catcher."""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from env_file import read, refuse_unread
from parts import (
    ROOT,
    Environment,
    claim,
    claim_wanted,
    install,
    mail_command,
    secrets_command,
)
from redis_servers import start_redis
from services import Services, reloaded
from supervisor import Fault, Stopped, Supervisor

NOT_RUNNING = 3
USAGE = "usage: run.py [run | exec SERVICE -- COMMAND... | running | clean]     settings: PORT=8080 VAR=var RELOAD="
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


def run(var: Path, given: Environment) -> None:
    """Start every part, say where it is, and watch over it until somebody asks for the end."""
    with occupied(var) as lock, Supervisor(keep_open=lock) as supervisor:
        gateway = claim_wanted(given.get("PORT", "8080"))
        reloaded(given.get("RELOAD", ""))
        install(supervisor)
        supervisor.complete("secrets", secrets_command(var))
        ports = {name: start_redis(supervisor, var, name) for name in ("redis", "redis-limits")}
        mail = [claim(), claim()]
        supervisor.start("mail", mail_command(*mail), store=True, sockets=mail)
        ports |= {name: held.getsockname()[1] for name, held in zip(("smtp", "mailbox"), mail, strict=True)}
        services = Services(supervisor, var, ports, given, gateway, partial(note_environments, var))
        services.start()
        supervisor.say(
            WELCOME.format(
                url=f"http://localhost:{services.ports['gateway']}",
                mailbox=f"http://localhost:{ports['mailbox']}",
                var=var,
            )
        )
        while True:
            services.turn()


def settings() -> dict[str, str]:
    """The environment over `.env`, so that one file serves this and compose."""
    return read(ROOT) | dict(os.environ)


@contextmanager
def occupied(var: Path) -> Iterator[int]:
    """Hold the folder, as two systems on one state would destroy it; every part inherits the lock."""
    # Databases, logs and pictures: whatever any part writes here is for nobody else on this machine.
    os.umask(0o077)
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (var / "lock").is_file() or not any(var.iterdir()):
            var.chmod(0o700)
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


def note_environments(var: Path, environments: Mapping[str, Environment]) -> None:
    """Leave for `exec` what we added to the caller's own environment; it names secrets and holds none."""
    added = {
        service: {key: value for key, value in environment.items() if os.environ.get(key) != value}
        for service, environment in environments.items()
    }
    draft = var / "environments.new"
    draft.write_text(json.dumps(added, indent=2))
    draft.rename(var / "environments.json")


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
    print(f"on the embedded system in {var}", file=sys.stderr, flush=True)
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
        print(f"deleting {var}", file=sys.stderr)
        shutil.rmtree(var)


def main(arguments: Sequence[str]) -> None:
    """Choose the command; a fault is one line and a non-zero exit."""
    given = settings()
    var = Path(given.get("VAR", "var")).resolve()
    match arguments:
        case [] | ["run"]:
            refuse_unread(read(ROOT), ROOT)
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
