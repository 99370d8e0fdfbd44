"""The services of the embedded system: installed, started and published; yours come, go and fail while others serve."""

import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

from parts import (
    EACH_PACKAGE,
    OURS,
    ROOT,
    Environment,
    claim,
    environment_of,
    install_command,
    migrations_command,
    own_services,
    service_command,
)
from supervisor import Child, Fault, Supervisor

sys.path.append(
    str(ROOT / "service-kit/src")
)  # its module of the standard library alone: this is no environment of uv's
from service_kit.routes import Refused, publish, withdraw

START_SECONDS = 180  # a busy machine takes its time; what cannot start says so at once, by ending
LOOK_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STEADY_SECONDS = 60.0  # whoever has served so long begins with the first pause again
WITHDRAWN_SECONDS = 2.0  # until the gateway has looked at its routes
RELOAD_STOP_SECONDS = 5.0
ANSWER_SECONDS = 5.0

# What a service does, step by step: each yield says for how many seconds it has nothing to do.
Steps = Generator[float, None, None]
Stamp = frozenset[tuple[str, int, int]]


class Failed(Exception):
    """Why a service does not serve, to be read after its name."""


class Services:
    """All of them, one step at a time in a single thread."""

    def __init__(
        self,
        supervisor: Supervisor,
        var: Path,
        ports: Mapping[str, int],
        given: Environment,
        gateway: socket.socket,
        changed: Callable[[Mapping[str, Environment]], None],
    ) -> None:
        self.supervisor = supervisor
        self.routes = var / "routes"
        self._var = var
        self._given = given
        self._changed = changed
        self._looked = time.monotonic()
        self._reload = reloaded(given.get("RELOAD", ""))
        self.ports = dict(ports)
        self._services: dict[str, Service] = {}
        self.routes.mkdir(exist_ok=True)
        for name in (*OURS, *own_services()):
            self._services[name] = Service(
                name, self, reloads=name in self._reload, public=gateway if name == "gateway" else None
            )
        # Before the gateway reads them: no port of an earlier start, and nobody who has left meanwhile.
        for folder in self.routes.iterdir():
            if not folder.name.startswith(".") and folder.name not in self._services:
                withdraw(folder.name, self.routes)
        for service in self._services.values():
            service.publish()

    def environment(self, name: str) -> dict[str, str]:
        return environment_of(name, self._var, self.ports, self._given)

    def note(self) -> None:
        """Who is there, and how each is called, has changed."""
        self._changed({name: self.environment(name) for name in self._services})

    def start(self) -> None:
        """Returns when ours are ready, and yours are or have failed once."""
        self.note()
        deadline = time.monotonic() + START_SECONDS
        while waiting := [each for each in self._services.values() if not each.ready and not each.failed]:
            self.turn()
            if time.monotonic() > deadline:
                late = waiting[0]
                raise Fault(f"{late.name} is not ready after {START_SECONDS} s: {late.trouble}")
        # What they said meanwhile comes before what the reader needs.
        began = time.monotonic()
        while time.monotonic() < began + 0.5:
            self.turn()

    def turn(self) -> None:
        """One step of everybody for whom it is time, then wait for the next."""
        now = time.monotonic()
        if now >= self._looked + LOOK_SECONDS:
            self._looked = now
            self._look()
        for name, service in list(self._services.items()):
            if not service.step(now):
                del self._services[name]
                self.note()
        due = min((service.due for service in self._services.values()), default=now + LOOK_SECONDS)
        self.supervisor.attend(max(0.0, min(due, self._looked + LOOK_SECONDS) - time.monotonic()))

    def _look(self) -> None:
        """A folder that has come or gone."""
        there = set(own_services())
        for name, service in self._services.items():
            if name not in there and name not in OURS:
                service.leave()
        for name in there - self._services.keys():
            if newest(ROOT / name) < time.time() - LOOK_SECONDS:  # else it is still being written
                self.supervisor.say(f"{name} has come")
                self._services[name] = Service(name, self, reloads=name in self._reload)
                self.note()


class Service:
    """One of them."""

    def __init__(
        self, name: str, all_of_them: Services, *, reloads: bool, public: socket.socket | None = None
    ) -> None:
        self.name = name
        self.due = 0.0
        self.ready = False
        self.failed = False
        self.trouble = "nobody has asked"
        self._home = ROOT / name
        self._services = all_of_them
        self._supervisor = all_of_them.supervisor
        self._reloads = reloads
        self._essential = name in OURS and not reloads
        self._leaving = False
        self._child: Child | None = None
        self._prepared: dict[str, Stamp] = {}
        self._published: Stamp | None = None
        self._ready_since = 0.0
        self._claim(public or claim())
        self._steps = self._live()

    def step(self, now: float) -> bool:
        """Go on if it is time or its process has ended; False: it has left."""
        if now >= self.due or (self._child is not None and self._child.process.poll() is not None):
            try:
                self.due = now + next(self._steps)
            except StopIteration:
                return False
        return True

    def leave(self) -> None:
        """Its folder is gone: routes first, then whoever serves them."""
        if not self._leaving:
            self._leaving = True
            self._steps, self.due = self._leave(), 0.0

    def publish(self) -> None:
        """Its routes as they are now, with the ports that it has."""
        source = self._home / "routes"
        self._published = stamp(source)
        addresses = {"stable": [address(self._public)], "internal": [address(self._internal)]}
        try:
            if source.is_dir():
                publish(self.name, source, self._services.routes, addresses)
            elif self.name != "gateway":
                withdraw(self.name, self._services.routes)
        except (Refused, OSError) as refused:
            if self._essential and not self.ready:
                raise Fault(f"routes of {self.name} refused: {refused}") from None
            self._supervisor.say(f"routes of {self.name} refused, those of before stay: {refused}")

    def _live(self) -> Steps:
        pause = FIRST_PAUSE
        while True:
            try:
                yield from self._prepare()
                yield from self._start()
                yield from self._serve()
            except Failed as failed:
                if self._essential:
                    raise Fault(f"{self.name} {failed}") from None
                steady = self.ready and time.monotonic() > self._ready_since + STEADY_SECONDS
                self.ready, self.failed = False, True
                pause = FIRST_PAUSE if steady else pause
                self._supervisor.say(f"{self.name} {failed}; it is started again in {pause:g} s")
            yield from self._stop()
            if self.name not in OURS:  # at once refused instead of waiting for nobody
                self._close()
                self._claim(claim())
            yield from self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _prepare(self) -> Steps:
        """What it needs is installed, and its schema is that of its code; a moment when nothing changed."""
        package = self._home / "src" / self.name.replace("-", "_")
        if (
            self._differs("uv", self._home / "pyproject.toml", self._home / "uv.lock")
            and self.name not in OURS
        ):
            yield from self._complete(f"uv {self.name}", *install_command(self._home))
        self._note("uv", self._home / "pyproject.toml", self._home / "uv.lock")
        migrations = package / "migrations"
        if migrations.is_dir() and self._differs("migrations", migrations):
            environment = self._services.environment(self.name)
            yield from self._complete("migrations", migrations_command(self.name), environment)
            self._note("migrations", migrations)

    def _complete(self, name: str, command: list[str], environment: Environment) -> Steps:
        self._child = self._supervisor.start(name, command, environment, essential=False)
        self._child.unsaid = EACH_PACKAGE
        while not self._supervisor.ended(self._child):
            yield 1.0
        if self._child.process.returncode:
            raise Failed(f"cannot start: {name} failed {self._child.ending()}")

    def _start(self) -> Steps:
        """Ready is what it says itself: nobody else can answer at a port that we hold."""
        sockets = (self._public, self._internal)
        self._child = self._supervisor.start(
            self.name,
            service_command(self.name, [each.fileno() for each in sockets]),
            self._services.environment(self.name),
            essential=self._essential,
            sockets=sockets,
        )
        deadline = time.monotonic() + START_SECONDS
        while (trouble := (yield from self._ask())) is not None:
            self.trouble = trouble
            if time.monotonic() > deadline:
                raise Failed(f"is not ready after {START_SECONDS} s: {trouble}")
            self._check()
            yield 0.1
        self.ready, self._ready_since = True, time.monotonic()
        self.publish()
        if self.name not in OURS or self._reloads:
            self._supervisor.say(f"{self.name} serves")

    def _serve(self) -> Steps:
        code = stamp(self._home / "src")
        while True:
            self._check()
            if (routes := stamp(self._home / "routes")) != self._published:
                yield 0.2
                if routes == stamp(self._home / "routes"):  # else it is still being written
                    self.publish()
            if self._reloads and (changed := stamp(self._home / "src")) != code:
                code = changed
                try:
                    yield from self._replace()
                except Failed as failed:
                    self._supervisor.say(f"{self.name} {failed}; what served before goes on")
            yield 0.25 if self._reloads else 1.0

    def _replace(self) -> Steps:
        """One more at the same public port; when it is ready the former ends, so that nobody is turned away."""
        former, internal = self._child, self._internal
        assert former is not None
        self._claim(self._public)
        try:
            yield from self._prepare()
            yield from self._start()
        except Failed:
            yield from self._stop()
            self._internal.close()
            self._child = former
            self._hold(self._public, internal)
            raise
        internal.close()
        for _ in self._supervisor.stop(former, RELOAD_STOP_SECONDS):
            yield 0.05

    def _check(self) -> None:
        assert self._child is not None
        if self._supervisor.ended(self._child):
            child, self._child = self._child, None
            raise Failed(f"stopped by itself {child.ending()}")

    def _ask(self) -> Generator[float, None, str | None]:
        """Why it does not say that it is ready."""
        try:
            with socket.create_connection(self._internal.getsockname(), timeout=1) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                connection.setblocking(False)
                deadline = time.monotonic() + ANSWER_SECONDS
                response = b""
                while True:
                    try:
                        block = connection.recv(65536)
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            return f"no response in {ANSWER_SECONDS:g} s"
                        self._check()
                        yield 0.05
                        continue
                    response += block
                    if not block or len(response) > 65536:
                        break
        except OSError as error:
            return str(error)
        head, _, body = response.partition(b"\r\n\r\n")
        return None if head.split(b" ")[1:2] == [b"200"] else body.decode(errors="replace")

    def _pause(self, seconds: float) -> Steps:
        """Shorter if something of it changes: that may be what was wrong."""
        before = stamp(self._home, but=(".venv",))
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and stamp(self._home, but=(".venv",)) == before:
            yield 0.25

    def _leave(self) -> Steps:
        withdraw(self.name, self._services.routes)
        yield WITHDRAWN_SECONDS
        yield from self._stop()
        self._close()
        self._supervisor.say(f"{self.name} has left")

    def _stop(self) -> Steps:
        if self._child is not None:
            child, self._child = self._child, None
            for _ in self._supervisor.stop(child):
                yield 0.05

    def _claim(self, public: socket.socket) -> None:
        self._hold(public, claim())

    def _hold(self, public: socket.socket, internal: socket.socket) -> None:
        self._public, self._internal = public, internal
        for place, held in ((self.name, self._public), (f"{self.name}-internal", self._internal)):
            self._services.ports[place] = held.getsockname()[1]

    def _close(self) -> None:
        self._public.close()
        self._internal.close()

    def _differs(self, what: str, *places: Path) -> bool:
        return self._prepared.get(what) != stamp(*places)

    def _note(self, what: str, *places: Path) -> None:
        self._prepared[what] = stamp(*places)


def reloaded(said: str) -> set[str]:
    """The services that RELOAD names."""
    names = set(said.replace(",", " ").split())
    there = (*OURS, *own_services())
    if unknown := sorted(names - set(there)):
        raise Fault(f"RELOAD={unknown[0]}: there is no such service, choose of {', '.join(there)}")
    return names


def address(held: socket.socket) -> str:
    host, port = held.getsockname()
    return f"{host}:{port}"


def files(place: Path, but: tuple[str, ...]) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        for each in place.iterdir():
            if each.name not in ("__pycache__", *but):
                yield from files(each, but)


def stamp(*places: Path, but: tuple[str, ...] = ()) -> Stamp:
    """What tells one state of these files from another."""
    found = set()
    for place in places:
        try:
            for file in files(place, but):
                state = file.stat()
                found.add((str(file), state.st_mtime_ns, state.st_size))
        except OSError:
            continue  # gone meanwhile: so it differs next time
    return frozenset(found)


def newest(folder: Path) -> float:
    """When something of it was written last."""
    return max((modified for _, modified, _ in stamp(folder, but=(".venv",))), default=0) / 1e9
