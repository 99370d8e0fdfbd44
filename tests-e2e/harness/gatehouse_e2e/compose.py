"""Containers of our own: a compose project with its own name and ports, and the ways to break its parts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .systems import CommandFailed, System, free_port, run, run_id
from .toxics import ToxicControl
from .waiting import until

UP_SECONDS = 600
ROLL = "deploy/compose/roll.py"
PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"
CHECKOUT_LABEL = "gatehouse.e2e.checkout"  # of an image: the machine and the folder that it was built for
METRICS = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9000/metrics', timeout=5).read().decode())"
)
READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:9000/readyz', timeout=2)"


@dataclass
class Compose(System):
    """One running project. Parts are named as in the compose file: `gateway`, `mysql`, ..."""

    checkout: Path = Path()
    project: str = ""
    files: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    toxic_control: ToxicControl | None = None
    _repairs: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)

    @classmethod
    def start(cls, checkout: Path, say: Callable[[str], None], evidence: Path) -> Compose:
        """A project of its own, up; what explains that it did not come up is written to `evidence`."""
        port, plain, mail, toxics = (free_port() for _ in range(4))
        system = cls(
            url=f"http://localhost:{port}",
            plain_url=f"http://localhost:{plain}",
            mail_url=f"http://localhost:{mail}",
            believes_addresses=True,
            checkout=checkout,
            project=f"gatehouse-e2e-{run_id()}",
            files=(checkout / "docker-compose.yml", checkout / "tests-e2e" / "compose.yaml"),
            environment={
                "PORT": str(port),
                "E2E_PLAIN_PORT": str(plain),
                "E2E_MAIL_PORT": str(mail),
                "E2E_TOXICS_PORT": str(toxics),
                "E2E_IMAGES": images_of(checkout),
                "E2E_CHECKOUT": checkout_label(checkout),
            },
            toxic_control=ToxicControl("127.0.0.1", toxics),
        )
        before = images(images_of(checkout))
        try:
            system.up(say, "--build")
            remove_nameless(before - images(images_of(checkout)))
        except BaseException:
            for tidy in (partial(system.keep_evidence, evidence), system.stop):
                try:
                    tidy()
                except (CommandFailed, subprocess.TimeoutExpired) as error:
                    say(str(error))  # why it did not start is to be raised, not what came after it
            raise
        return system

    # The whole project

    def up(
        self, say: Callable[[str], None], *options: str, overlays: Sequence[str] = (), **environment: str
    ) -> None:
        """Start, or change to what further files of this folder say; wait until healthy, telling how far it is."""
        done = threading.Event()
        began = time.monotonic()

        def progress() -> None:
            while not done.wait(5):
                states = ", ".join(f"{part} {state}" for part, state in sorted(self.states().items()))
                say(f"{time.monotonic() - began:4.0f} s  {states or 'building images'}")

        teller = threading.Thread(target=progress, daemon=True)
        teller.start()
        try:
            self.compose("up", "--wait", *options, overlays=overlays, seconds=UP_SECONDS, **environment)
        finally:
            done.set()
            teller.join()
        say(f"{time.monotonic() - began:4.0f} s  up at {self.url}")

    def stop(self) -> None:
        down = self._command("down", "--volumes", "--remove-orphans", "--timeout", "3")
        run(down, cwd=self.checkout, environment=self.environment, seconds=120, apart=True)

    def compose(
        self, *arguments: str, overlays: Sequence[str] = (), seconds: float = 120, **environment: str
    ) -> str:
        command = self._command(*arguments, overlays=overlays)
        return run(command, cwd=self.checkout, environment=self.environment | environment, seconds=seconds)

    def _command(self, *arguments: str, overlays: Sequence[str] = ()) -> list[str]:
        files = (*self.files, *(self.checkout / "tests-e2e" / overlay for overlay in overlays))
        named = [part for file in files for part in ("-f", str(file))]
        return ["docker", "compose", "-p", self.project, *named, "--profile", "*", *arguments]

    def states(self) -> dict[str, str]:
        """Part -> what docker says of it, e.g. `Up 3 seconds (healthy)`."""
        listing = '{{.Label "' + SERVICE_LABEL + '"}}\t{{.Status}}'
        try:
            lines = run(["docker", "ps", "-a", *self._mine(), "--format", listing]).splitlines()
        except (CommandFailed, subprocess.TimeoutExpired):
            return {}
        return dict(line.split("\t", 1) for line in lines if "\t" in line)

    def keep_evidence(self, folder: Path) -> None:
        """Logs and full state of every container, finished ones too."""
        folder.mkdir(parents=True, exist_ok=True)
        for container in run(["docker", "ps", "-aq", *self._mine()]).split():
            state = self.inspect(container)
            name = state["Name"].strip("/").removeprefix(f"{self.project}-")
            (folder / f"{name}.json").write_text(json.dumps(state, indent=1))
            with (folder / f"{name}.log").open("wb") as log:
                subprocess.run(
                    ["docker", "logs", "--timestamps", container], stdout=log, stderr=log, check=False
                )

    # One part

    def containers(self, part: str) -> list[str]:
        found = run(
            ["docker", "ps", "-aq", *self._mine(), "--filter", f"label={SERVICE_LABEL}={part}"]
        ).split()
        if not found:
            raise CommandFailed(f"{self.project} has no part {part}")
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        return dict(json.loads(run(["docker", "inspect", container]))[0])

    def kill(self, part: str) -> None:
        """SIGKILL, as a crash; nothing starts it again but `start`."""
        self._docker("kill", part)
        self._repairs["kill", part] = lambda: self.start_again(part)

    def crash(self, part: str) -> None:
        """End the part's main process from within, as a fault of its own would; docker starts it again."""
        end = ("python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        run(["docker", "exec", "--detach", self.containers(part)[0], *end])

    def start_again(self, part: str) -> None:
        self._docker("start", part)
        self._repairs.pop(("kill", part), None)

    def restart(self, part: str) -> None:
        self._docker("restart", part)

    def replace_one_by_one(self, part: str) -> float:
        """Stop and start every replica, each once the one before is healthy; seconds of the longest exit."""
        longest = 0.0
        for container in self.containers(part):
            began = time.monotonic()
            run(["docker", "stop", "--time", "35", container], seconds=60)
            longest = max(longest, time.monotonic() - began)
            run(["docker", "start", container], seconds=60)
            until(partial(self.is_healthy, container), 60, f"{container} healthy", every=0.3)
        return longest

    def roll(self, part: str, *options: str) -> str:
        """What an operator does for a new release: `make roll`, on the files of this project; what it said."""
        return self._converge("roll", part, *options)

    def up_again(self, *parts: str) -> str:
        """`make up`, or `make up SERVICE=`, on what runs; what it said."""
        return self._converge("up", *parts)

    def watched_roll(self, part: str) -> list[tuple[float, str]]:
        """What a roll says, each line with the seconds from its start; how it ends is not looked at."""
        began = time.monotonic()
        with self._rolling(part) as lines:
            return [(time.monotonic() - began, line) for line in lines]

    def killed_roll(self, part: str, *, step: int, after: float) -> None:
        """SIGKILL a roll so many seconds into this step of its five; what it had started goes on."""
        with self._rolling(part) as lines:
            for line in lines:
                if f": {step} of 5" in line:
                    time.sleep(after)
                    return

    @contextmanager
    def _rolling(self, part: str) -> Iterator[Iterable[str]]:
        roll = subprocess.Popen(
            [str(self.checkout / ROLL), "roll", part],
            cwd=self.checkout,
            env={**os.environ, **self._operators_environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert roll.stdout is not None
        with roll:
            try:
                yield roll.stdout
            finally:
                roll.kill()

    def _converge(self, *arguments: str) -> str:
        command = [str(self.checkout / ROLL), *arguments]
        return run(command, cwd=self.checkout, environment=self._operators_environment(), seconds=300)

    # Releases of one part: made on top of its base, in a second

    def tags(self, part: str) -> dict[str, str]:
        """Tag -> id, of the part's images."""
        command = ["docker", "images", "--no-trunc", "--format", "{{.Tag}} {{.ID}}", self._image(part)]
        return dict(line.split() for line in run(command).splitlines() if "<none>" not in line)

    def name_base(self, part: str) -> None:
        """What serves now is what releases are made of."""
        run(["docker", "tag", self._image(part), f"{self._image(part)}:base"])

    @contextmanager
    def release(self, part: str, *lines: str) -> Iterator[None]:
        """Inside the block this checkout's release of the part is its base with these lines on top."""
        files = self.files
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / "Dockerfile").write_text("\n".join((f"FROM {self._image(part)}:base", *lines, "")))
            build = {"context": made, "dockerfile": "Dockerfile", "network": "none"}
            (Path(made) / "release.json").write_text(json.dumps({"services": {part: {"build": build}}}))
            self.files = (*files, Path(made) / "release.json")
            try:
                yield
            finally:
                self.files = files

    def forget_releases(self, part: str) -> None:
        """The base serves again, and no other release has a name."""
        run(["docker", "tag", f"{self._image(part)}:base", self._image(part)])
        self.compose("up", "--no-build", "--wait", part)
        run(["docker", "rmi", *(f"{self._image(part)}:{tag}" for tag in self.tags(part) if tag != "latest")])

    def _image(self, part: str) -> str:
        return f"{self.environment['E2E_IMAGES']}-{part}"

    def _operators_environment(self) -> dict[str, str]:
        """What makes a command of the checkout act on this project."""
        return self.environment | {
            "PROJECT": self.project,
            "COMPOSE_FILE": os.pathsep.join(map(str, self.files)),
            "COMPOSE_PROFILES": "*",
        }

    def empty_volume(self, name: str) -> None:
        """Delete everything in one of the project's volumes; whoever uses it must be stopped."""
        volume = f"{self.project}_{name}:/v"
        run(
            [
                "docker",
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                volume,
                "python:3.13-slim",
                "find",
                "/v",
                "-mindepth",
                "1",
                "-delete",
            ]
        )

    def pause(self, part: str) -> None:
        """Freeze: connections stay open and say nothing."""
        self._docker("pause", part)
        self._repairs["pause", part] = lambda: self.resume(part)

    def resume(self, part: str) -> None:
        self._docker("unpause", part)
        self._repairs.pop(("pause", part), None)

    def fault(self, how: str, part: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """How `killed` or `paused` begins and how it is mended, for `suffer`."""
        begin, mend = {"killed": (self.kill, self.start_again), "paused": (self.pause, self.resume)}[how]
        return partial(begin, part), partial(mend, part)

    def disconnect(self, part: str, network: str) -> None:
        """Take the part off one of the project's networks, named as in the compose file."""
        for container in self.containers(part):
            run(["docker", "network", "disconnect", "--force", f"{self.project}_{network}", container])
        self._repairs["disconnect " + network, part] = lambda: self.connect(part, network)

    def connect(self, part: str, network: str) -> None:
        for container in self.containers(part):
            run(["docker", "network", "connect", "--alias", part, f"{self.project}_{network}", container])
        self._repairs.pop(("disconnect " + network, part), None)

    def scale(self, part: str, count: int) -> None:
        """As `<PART>_REPLICAS` in an operator's .env: whatever is done afterwards keeps to it."""
        self.environment[f"{part.upper().replace('-', '_')}_REPLICAS"] = str(count)
        self.compose("up", "--no-build", "--no-recreate", "--wait", part)

    def execute(self, part: str, *command: str, stdin: str | None = None, seconds: float = 30) -> str:
        container = self.containers(part)[0]
        interactive = ["-i"] if stdin is not None else []
        return run(["docker", "exec", *interactive, container, *command], stdin=stdin, seconds=seconds)

    def signal(self, part: str, name: str) -> None:
        """Send a signal to the part's main process, `HUP` for example."""
        self._docker("kill", part, "--signal", name)

    def running(self, part: str) -> bool:
        return all(self.inspect(container)["State"]["Running"] for container in self.containers(part))

    def crashes(self, *parts: str) -> int:
        """How many containers of these parts ended by themselves, restarted ones included."""
        states = [self.inspect(container) for part in parts for container in self.containers(part)]
        return sum(state["RestartCount"] + (not state["State"]["Running"]) for state in states)

    def started(self, part: str) -> str:
        """When the part's container last started, as docker writes it."""
        return str(self.inspect(self.containers(part)[0])["State"]["StartedAt"])

    def logs(self) -> dict[str, str]:
        return {part: self.log(part) for part in self.states()}

    def log(self, part: str, since: str = "") -> str:
        """Everything the part's containers ever said, or said since then."""
        told = ""
        for container in self.containers(part):
            command = ["docker", "logs", *(["--since", since] if since else []), container]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            told += done.stdout + done.stderr
        return told

    def healthy(self, part: str) -> bool:
        return all(self.is_healthy(container) for container in self.containers(part))

    def is_healthy(self, container: str) -> bool:
        return bool(self.inspect(container)["State"].get("Health", {}).get("Status") == "healthy")

    def ready(self, part: str) -> bool:
        """What the part's own /readyz says; its port is open to nobody outside."""
        try:
            for container in self.containers(part):
                run(["docker", "exec", container, "python", "-c", READY], seconds=5)
        except (CommandFailed, subprocess.TimeoutExpired):
            return False
        return True

    def wait_ready(self, part: str, within: float) -> float:
        """Seconds until the part says it is ready."""
        return until(lambda: self.ready(part), within, f"{part} ready")

    def metric(self, part: str, name: str, **labels: str) -> float:
        """The sum over one of the part's metrics, of the series with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.execute(part, "python", "-c", METRICS).splitlines()
            if line.startswith((f"{name} ", f"{name}{{")) and all(pair in line for pair in wanted)
        )

    def make_admin(self, email: str) -> None:
        self.execute("user-service", "python", "-m", "user_service.cli", "admin", email, seconds=90)

    # Faults between parts

    @contextmanager
    def wired(self, say: Callable[[str], None]) -> Iterator[ToxicControl]:
        """Every connection between two parts goes through the toxic proxy inside the block."""
        assert self.toxic_control is not None
        self.up(say, overlays=["compose.toxics.yaml"])
        try:
            yield self.toxic_control
        finally:
            self.up(say)

    def heal(self) -> None:
        """Undo whatever a test broke and did not mend."""
        for repair in tuple(self._repairs.values()):
            repair()
        self._repairs.clear()

    def _docker(self, verb: str, part: str, *options: str) -> None:
        run(["docker", verb, *options, *self.containers(part)], seconds=90)

    def _mine(self) -> list[str]:
        return ["--filter", f"label={PROJECT_LABEL}={self.project}"]


def engine_missing() -> str:
    """Why containers cannot be started here; empty when they can."""
    try:
        run(["docker", "info"], seconds=20)
        run(["docker", "compose", "version"], seconds=20)
    except (OSError, CommandFailed, subprocess.TimeoutExpired) as error:
        return f"no container engine here ({str(error).splitlines()[0]})"
    return ""


def images_of(checkout: Path) -> str:
    """What the names of a checkout's images begin with: the same for each run of it, another for another checkout."""
    return f"gatehouse-e2e-{hashlib.sha256(bytes(checkout.resolve())).hexdigest()[:8]}"


def checkout_label(checkout: Path) -> str:
    return f"{socket.gethostname()}:{checkout.resolve()}"


def images(named: str) -> set[str]:
    """The ids of the images whose names begin so."""
    listed = run(["docker", "images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"]).splitlines()
    return {line.split()[1] for line in listed if line.startswith(f"{named}-")}


def remove_nameless(replaced: set[str]) -> None:
    """What a build replaced; the layers that the next build can start from belong to the new image too, and stay."""
    nameless = run(["docker", "images", "--no-trunc", "--quiet", "--filter", "dangling=true"]).split()
    for image in replaced.intersection(nameless):
        with suppress(CommandFailed):  # another run of this checkout has containers of it
            run(["docker", "image", "rm", image])


def remove_images_of_vanished_checkouts() -> None:
    """Whose label names a folder of this machine that is gone: another machine that uses the engine keeps its own."""
    built = set(run(["docker", "images", "--quiet", "--filter", f"label={CHECKOUT_LABEL}"]).split())
    for image in built:
        with suppress(CommandFailed):  # another run was quicker, or has containers of it
            found = json.loads(run(["docker", "image", "inspect", image]))[0]
            machine, _, folder = found["Config"]["Labels"][CHECKOUT_LABEL].partition(":")
            if machine == socket.gethostname() and not Path(folder).exists():
                run(["docker", "image", "rm", *(found["RepoTags"] or [image])])


def remove_leftovers() -> None:
    """Remove projects whose run was killed before it could clean up: their run's process is gone."""
    names = set(run(["docker", "ps", "-a", "--format", '{{.Label "' + PROJECT_LABEL + '"}}']).split())
    for name in names:
        prefix, _, rest = name.partition("gatehouse-e2e-")
        process = rest.split("-")[0]
        if not prefix and process.isdigit() and not _alive(int(process)):
            run(["docker", "compose", "-p", name, "down", "--volumes", "--timeout", "3"], seconds=120)
    # A clone that a test made in a folder named after its run has images of its own.
    for image in run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split():
        of_run = re.match(r"gatehouse-e2e-(\d+)-[0-9a-f]{6}", image)
        if of_run and not _alive(int(of_run[1])):
            with suppress(CommandFailed):  # another run was quicker
                run(["docker", "image", "rm", image])


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
