"""A checkout whose services are stubs, so that what starts and watches them is tested alone and quickly."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

ROOT = Path(__file__).parents[3]
# As gunicorn is called. `says` is what it answers; it may be what it does instead.
GUNICORN = """#!{python}
import signal, socket, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

says = (Path(__file__).parents[2] / "src" / "says").read_text()
if says == "dies":
    sys.exit("no such setting")

class Stub(BaseHTTPRequestHandler):
    def do_GET(self):
        if says == "unready" and self.path == "/readyz":
            self.send_error(503)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(says.encode())
    def log_message(self, *_):
        pass

servers = []
for bind in (part for part in sys.argv if part.startswith("fd://")):
    server = ThreadingHTTPServer(("", 0), Stub, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(bind.removeprefix("fd://")))
    server.socket.listen()
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    servers.append(server)

def end(*_):
    for server in servers:
        server.shutdown()
    time.sleep(0.5)  # whoever has connected is answered
    sys.exit()

signal.signal(signal.SIGTERM, end)
print("started", flush=True)
while True:
    time.sleep(60)
"""
ROUTES = '[[routes]]\nname = "{0}.all"\npath = "/v1/{0}"\nmethods = ["GET"]\n'


class Checkout:
    """`make run` in it, with what it says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.var = root / "var"
        self._running: subprocess.Popen[bytes] | None = None
        for part in ("deploy/embedded", "deploy/compose", "deploy/mail-catcher", "service-kit/src"):
            copytree(ROOT / part, root / part, ignore=ignore_patterns("__pycache__", "tests"))
        (root / "deploy/.venv").symlink_to(ROOT / "deploy/.venv")  # its Redis server
        (root / "docker-compose.yml").touch()
        (root / "uv").write_text("#!/bin/sh\nexit 0\n")
        (root / "uv").chmod(0o755)
        for name in ("auth-service", "user-service", "gateway"):
            self.add(name)

    def add(self, name: str, says: str = "one", routes: str = ROUTES) -> None:
        """A service, in its place at once."""
        draft = self.root / f".{name}"
        code = draft / "src" / name.replace("-", "_")
        code.mkdir(parents=True)
        (code / "gunicorn_conf.py").touch()
        (draft / "src/says").write_text(says)
        gunicorn = draft / ".venv/bin/gunicorn"
        gunicorn.parent.mkdir(parents=True)
        gunicorn.write_text(GUNICORN.format(python=sys.executable))
        gunicorn.chmod(0o755)
        if name != "gateway":
            (draft / "routes").mkdir()
            (draft / "routes/all.toml").write_text(routes.format(name))
        draft.rename(self.root / name)

    def change(self, name: str, says: str) -> None:
        draft = self.root / name / "says.new"
        draft.write_text(says)
        draft.rename(self.root / name / "src/says")

    def start(self, **settings: str) -> None:
        environment = {"PATH": os.environ["PATH"], "UV": str(self.root / "uv")}
        environment |= {"PORT": "0", "VAR": str(self.var)} | settings
        command = [sys.executable, str(self.root / "deploy/embedded/run.py")]
        with (self.root / "log").open("wb") as log:
            self._running = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.root)

    def started(self, **settings: str) -> None:
        self.start(**settings)
        self.until(lambda: "Gatehouse is up: " in self.log(), "up")

    def stop(self) -> None:
        if self._running is not None:
            self._running.send_signal(signal.SIGTERM)
            self._running.wait(60)

    def ended(self) -> int | None:
        assert self._running is not None
        return self._running.poll()

    def remove(self, name: str) -> None:
        (self.root / name).rename(self.root / f".{name}-gone")
        rmtree(self.root / f".{name}-gone")

    def log(self) -> str:
        return (self.root / "log").read_text()

    def url(self) -> str:
        found = re.search(r"Gatehouse is up: (\S+)", self.log())
        assert found
        return found[1]

    def upstream(self, name: str) -> str:
        """Where the gateway would find it."""
        said = tomllib.loads((self.var / "routes" / name / "upstreams.toml").read_text())
        return f"http://{said['stable'][0]}"

    def until(self, true: Callable[[], object], what: str, seconds: float = 60) -> float:
        """How long it took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if true():
                return time.monotonic() - began
            assert self.ended() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(f"not {what} within {seconds} s\n{self.log()}")


def get(url: str) -> str:
    """What it answers, or why it does not."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            said: bytes = response.read()
            return said.decode()
    except OSError as error:
        return str(error)
