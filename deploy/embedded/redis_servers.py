"""The two Redis servers of the embedded system: each on a port that is its own, whoever else takes ports meanwhile."""

import socket
from pathlib import Path

from parts import claim, redis_command
from supervisor import Fault, Supervisor

TRIES = 20


def start_redis(supervisor: Supervisor, var: Path, name: str) -> int:
    """Its port. Redis takes no socket that somebody else holds, so whoever is quicker gets that port, and it another."""
    password = (var / "secrets" / name / "health_password").read_text().strip()
    log = var / name / "log"
    said = ""
    for _ in range(TRIES):
        with claim() as probe:
            port: int = probe.getsockname()[1]
        before = log.stat().st_size if log.exists() else 0
        child = supervisor.start(name, redis_command(var, name, port), store=True, essential=False)
        while not supervisor.ended(child):
            if knows(port, password):
                child.essential = True
                return port
            supervisor.attend(0.05)
        said = log.read_bytes()[before:].decode(errors="replace") if log.exists() else child.said
        if "in use" not in said:
            break
    last = said.strip().splitlines()[-1:] or [f"nothing, see {log}"]
    raise Fault(f"{name} cannot start: {last[0]}")


def knows(port: int, password: str) -> bool:
    """Whether who listens there knows our password: a server of another system does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH health {password}\r\n".encode())
            return connection.recv(16).startswith(b"+OK")
    except OSError:
        return False
