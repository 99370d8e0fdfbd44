#!/usr/bin/env python3
"""Bring one service to this folder's release without an unanswered request (`roll`), or all that is here (`up`).

What is there is classified, never assumed: a run that was killed anywhere is finished by the next. The engine remembers
for us. `:latest` is what compose starts, `:previous` is what served before it, and `:unfinished`, while a roll is under
way, is the image that it began from. `:given-up` is what was rolled back from, or what a killed roll was bringing in,
until another roll ends well.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from containers import Container, Docker
from release import read_release

LOOK_SECONDS: Final = 0.5
# A service is ready by so much after its image's start_period, or never.
GRACE_SECONDS: Final = 1
# Until every gateway has looked the name up again.
NAMES_SECONDS: Final = 5
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(Exception):
    """Nothing was changed; its text says why, and what to do."""


class Failed(Exception):
    """The new release does not serve; its text says why."""


@dataclass(frozen=True)
class Service:
    """One entry of the compose files."""

    name: str
    image: str  # its name, without a tag where it is built here
    build: dict[str, Any] | None
    replicas: int
    published: bool  # it owns a port of the machine, so no second one starts beside it
    one_shot: bool
    needs: tuple[str, ...]

    @property
    def rollable(self) -> bool:
        return bool(self.build) and not self.published

    def tag(self, name: str) -> str:
        return f"{self.image}:{name}"


def read_service(name: str, said: dict[str, Any]) -> Service:
    return Service(
        name=name,
        image=said.get("image", ""),
        build=said.get("build"),
        replicas=(said.get("deploy") or {}).get("replicas", 1),
        published=bool(said.get("ports")),
        one_shot=said.get("restart") == "no",
        needs=tuple(said.get("depends_on") or ()),
    )


class Project:
    """What is wanted, by the compose files, and what is there, by the engine."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self._configuration = configuration = docker.configuration()
        self.name: str = configuration["name"]
        self.services = {name: read_service(name, said) for name, said in configuration["services"].items()}
        if none := [one.name for one in self.services.values() if one.rollable and one.replicas < 1]:
            name = f"{none[0].upper().replace('-', '_')}_REPLICAS"
            raise Refused(f"{name} is below 1, and would stop all that {none[0]} has")

    @cached_property
    def hashes(self) -> dict[str, str]:
        return self.docker.hashes(self._configuration)

    def containers(self, *services: str) -> list[Container]:
        return [one for one in self.docker.containers(self.name) if one.service in services]

    def with_needs(self, names: Iterable[str]) -> list[str]:
        """These services and all that they depend on, each after what it needs."""
        found: list[str] = []
        for name in names:
            found += [one for one in self.with_needs(self.services[name].needs) if one not in found]
            found += [] if name in found else [name]
        return found

    def one_shots(self, service: str) -> list[str]:
        """What must have ended well before the service starts; its routes are published once it is ready."""
        needs = self.with_needs([service])
        return [one for one in needs if self.services[one].one_shot and one != routes_of(service)]

    def needs_a_build(self, service: Service) -> bool:
        """Whether it is built here, or depends on what is."""
        return any(self.services[name].build for name in self.with_needs([service.name]))

    def changed(self, container: Container) -> bool:
        """Whether compose would make another in its place: it compares the image behind the name, too."""
        service = self.services[container.service]
        return container.configuration != self.hashes[service.name] or container.image != self.docker.image(
            service.image
        )


def routes_of(service: str) -> str:
    """The one-shot that publishes a service's routes."""
    return f"{service}-routes"


# ---- One service ------------------------------------------------------------------------------------------------


def roll(project: Project, name: str, *, to_previous: bool) -> None:
    """Its name says what it does; the new release is this folder's, or the one that served before."""
    docker, service = project.docker, choose(project, name)
    previous = docker.image(service.tag("previous"))
    if to_previous and not previous:
        raise Refused(f"{name}: no release served here before this one")
    settle(project, service)
    if not project.containers(name):
        raise Refused(f"{name} does not run here: start it with make up")
    renew_secrets(project)
    if stale := stale_redis(project):
        raise Refused(
            f"Redis has the users of before, so nothing was rolled. First: docker compose restart {' '.join(stale)}"
        )
    with unfinished(project, service, to_previous=to_previous):
        if to_previous:
            docker.run("tag", previous, service.image)
        else:
            say(f"{name}: 1 of 5, build")
            build(project, service)
        old = bring_in(project, service)
    retire(project, service, old)


def replace(project: Project, service: Service) -> None:
    """The same with what is built already."""
    with unfinished(project, service):
        old = bring_in(project, service)
    retire(project, service, old)


def choose(project: Project, name: str) -> Service:
    service = project.services.get(name)
    if service is None or not service.build:
        built = ", ".join(sorted(one.name for one in project.services.values() if one.build))
        raise Refused(f"{name} is not built here: choose one of {built}")
    if service.published:
        raise Refused(
            f"{name} has a port to itself, so no second one starts beside it: make up SERVICE={name} replaces it"
        )
    return service


@contextlib.contextmanager
def unfinished(project: Project, service: Service, *, to_previous: bool = False) -> Iterator[None]:
    """Tags and containers are as before when the block fails; when it is killed, `settle` sees to that."""
    docker = project.docker
    before, mark = serving(project, service), service.tag("unfinished")
    docker.run("tag", before, mark)
    try:
        yield
    except BaseException as error:
        hear_nobody()
        warn(f"{service.name}: the new release is taken back: {reason(error)}")
        new = docker.image(service.image)
        settle(project, service)
        docker.untag(mark)
        docker.remove_nameless(new)
        raise Failed(f"{service.name}: {docker.release(before)} serves as before") from error
    if docker.image(service.image) != before:
        docker.run("tag", before, service.tag("previous"))
        if to_previous:
            docker.run("tag", before, service.tag("given-up"))
        else:
            docker.untag(service.tag("given-up"))
    docker.untag(mark)


def reason(error: BaseException) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{' '.join(error.cmd[:3])} … ended with exit code {error.returncode}\n{error.stderr}"
    return str(error)


def serving(project: Project, service: Service) -> str:
    """The image of what serves; where nothing does, of what should."""
    there = sorted(project.containers(service.name), key=lambda one: (not one.ready, one.created))
    return there[0].image if there else ""


def settle(project: Project, service: Service) -> None:
    """Finish what a killed run left: as many containers as wanted, of one release.

    Before its new containers were ready that is the release of before, after that the new one.
    """
    docker = project.docker
    before = docker.image(service.tag("unfinished"))
    if before:
        docker.run("tag", before, service.image)
    there = project.containers(service.name)
    stay = who_stays(there, service.replicas, before or docker.image(service.image), oldest=bool(before))
    surplus = [one for one in there if one not in stay]
    docker.remove([one for one in surplus if not one.ready])
    docker.retire([one for one in surplus if one.ready])
    remove_outdated_one_shots(project, project.with_needs([service.name]))


def give_up(project: Project, service: Service) -> None:
    """The same for good: what was being brought in waits for a `roll`, whatever follows it does not."""
    docker, mark = project.docker, service.tag("unfinished")
    before, begun = docker.image(mark), docker.image(service.image)
    if before and begun != before:
        docker.run("tag", begun, service.tag("given-up"))
    settle(project, service)
    docker.untag(mark)


def who_stays(there: Sequence[Container], wanted: int, image: str, *, oldest: bool) -> list[Container]:
    """Those that serve rather than those that do not, of this image rather than another, then the oldest or newest."""
    by_age = sorted(there, key=lambda one: one.created, reverse=not oldest)
    stay = sorted(by_age, key=lambda one: (not one.ready, one.image != image))[:wanted]
    if oldest and stay and stay[0].image == image:  # begun, and there is room for it: it goes too
        return [one for one in stay if one.image == image]
    return stay


def build(project: Project, service: Service) -> None:
    """To `:latest`, with labels that say of which files it is."""
    assert service.build is not None
    arguments = read_release(service.build).arguments()
    try:
        project.docker.compose("build", "--progress", "plain", *arguments, service.name)
    except subprocess.CalledProcessError as error:
        raise Failed(f"{service.name} cannot be built\n{(error.stdout + error.stderr)[-4000:]}") from None


def bring_in(project: Project, service: Service) -> list[Container]:
    """Start what `:latest` is beside what serves, until it is ready and its routes are published; what was there."""
    docker, name = project.docker, service.name
    if one_shots := project.one_shots(name):
        say(f"{name}: 2 of 5, run {', '.join(one_shots)}")
        run_one_shots(project, one_shots)
    old = project.containers(name)
    say(f"{name}: 3 of 5, start {service.replicas} beside {len(old)}")
    count = f"{name}={len(old) + service.replicas}"
    # With what it depends on: without, its configuration has another hash, and the next `up` would make it anew.
    docker.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", count, name)
    known = {one.id for one in old}
    new = [one.id for one in project.containers(name) if one.id not in known]
    if len(new) < max(1, service.replicas):
        raise Failed(f"{len(new)} new containers came of {service.replicas}")
    say(f"{name}: 4 of 5, wait until ready")
    wait_ready(docker, new)
    publish_routes(project, name)
    return old


def publish_routes(project: Project, name: str) -> None:
    """Those that the image carries, where the gateway reads them."""
    if routes_of(name) in project.services:
        run_one_shots(project, [routes_of(name)])


def run_one_shots(project: Project, names: Sequence[str]) -> None:
    """Of `:latest`. A container of before would be run again as it is, so it goes first."""
    remove_outdated_one_shots(project, names)
    docker = project.docker
    try:
        docker.compose("up", "--detach", "--no-build", "--no-recreate", *names)
        if running := [one.id for one in project.containers(*names)]:
            docker.run("wait", *running)
    finally:
        for one in project.containers(*names):
            if one.exit_code:
                raise Failed(f"{one.service} {one.fault}\n{docker.last_lines(one)}")


def remove_outdated_one_shots(project: Project, names: Iterable[str]) -> None:
    """compose makes whatever depends on a container anew along with it, but not because one is there that was not."""
    once = [name for name in names if project.services[name].one_shot]
    ended = [one for one in project.containers(*once) if one.status != "running"]
    project.docker.remove([one for one in ended if project.changed(one)])


def wait_ready(docker: Docker, new: Sequence[str]) -> None:
    """Until all are, or one of them never will be."""
    began = time.monotonic()
    while True:
        now, waited = docker.inspect(new), time.monotonic() - began
        if all(one.ready for one in now):
            return
        for one in now:
            late = not one.ready and waited > one.start_period + GRACE_SECONDS
            if fault := one.fault or (f"is not ready after {waited:.0f} s" if late else ""):
                raise Failed(f"a new container {fault}\n{docker.last_lines(one)}")
        time.sleep(LOOK_SECONDS)


def retire(project: Project, service: Service, old: Sequence[Container]) -> None:
    """The end of a roll, which nothing can take back any more."""
    say(f"{service.name}: 5 of 5, stop {len(old)} of before")
    tag_revision(project, service)
    time.sleep(NAMES_SECONDS)
    project.docker.retire(old)
    say(f"{service.name}: {project.docker.release(service.image)} serves")


def tag_revision(project: Project, service: Service) -> None:
    """Give `:latest` the name of its commit, too."""
    docker = project.docker
    image = docker.image(service.image)
    revision = docker.label(image, "org.opencontainers.image.revision")
    if revision:  # a plain `docker compose build` says none
        short = image.removeprefix("sha256:")[:8]
        docker.run("tag", image, service.tag(revision.replace("-dirty", f"-{short}")))


def renew_secrets(project: Project) -> None:
    """A release may bring one."""
    if "secrets" in project.services:
        project.docker.compose("run", "--rm", "--no-deps", "secrets")


def stale_redis(project: Project) -> list[str]:
    """The Redis servers that run with the users of before: they read them only when they start."""
    docker = project.docker
    return [
        one.service
        for one in project.containers("redis", "redis-limits")
        if one.status == "running"
        and docker.run("exec", one.id, "find", "/run/secrets/users.acl", "-newermt", one.started)
    ]


# ---- All that is here -------------------------------------------------------------------------------------------


def up(project: Project, names: Sequence[str]) -> None:
    """Start what does not run, and roll what has changed; nothing else is touched."""
    docker = project.docker
    if unknown := [name for name in names if name not in project.services]:
        raise Refused(f"no service is named {unknown[0]}: there are {', '.join(sorted(project.services))}")
    scope = [project.services[name] for name in project.with_needs(names or project.services)]
    built = [one for one in scope if one.build]
    serve = [one for one in built if one.rollable and any(c.ready for c in project.containers(one.name))]
    for one in serve:
        give_up(project, one)
    for one in built:
        if one not in serve:  # it starts from nothing, so nothing is unfinished
            docker.untag(one.tag("unfinished"))
    renew_stores(project, scope)
    latest = {one.name: docker.image(one.image) for one in built}
    if built:
        build_all(project, built)
    stay, failed = roll_changed(project, serve, latest)
    left = {one.name for one in serve if one.name in stay or one.name in failed}
    start(project, names, left, scope)
    for one in built:
        if one.name not in left:
            tag_revision(project, one)
    for why in stay.values():  # last, below all that compose says
        say(why)
    if failed:
        raise Failed("\n".join(failed.values()))


def build_all(project: Project, services: Sequence[Service]) -> None:
    """All at once, each told when it is done."""
    say(f"building {', '.join(one.name for one in services)}")
    with ThreadPoolExecutor(len(services)) as threads:
        for one, _ in zip(services, threads.map(lambda one: build(project, one), services), strict=True):
            say(f"{one.name} is built")


def renew_stores(project: Project, scope: Sequence[Service]) -> None:
    """What runs has what a new release needs of it before that comes. Alone, so that nothing else is made anew."""
    docker = project.docker
    stores = [one.name for one in scope if not one.one_shot and not project.needs_a_build(one)]
    there = project.containers(*stores)
    if any(project.changed(one) for one in there):
        remove_outdated_one_shots(project, project.with_needs(stores))
        docker.compose("up", "--no-build", "--wait", *stores)
    if project.containers("redis", "redis-limits"):
        renew_secrets(project)
        if stale := stale_redis(project):
            docker.compose("restart", *stale)


def roll_changed(
    project: Project, serve: Sequence[Service], latest: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Replace what serves another release or configuration than was built. What stays, and what failed, each with why.

    `latest` are the images of before the build: of what does not run, the release that it is to start with.
    """
    stay, failed, old = {}, {}, []
    for name, image in latest.items():
        one = project.services[name]
        before = serving(project, one) if one in serve else image
        if was_given_up(project, one, before):
            stay[name] = leave(project, one, before)
        if one in serve and any(project.changed(container) for container in project.containers(name)):
            old.append(one)
    if old:
        start_first(project, [name for name in latest if project.services[name] not in serve])
    for one in old:
        try:
            replace(project, one)
        except Failed as failure:
            failed[one.name] = str(failure)
    return stay, failed


def start_first(project: Project, down: Sequence[str]) -> None:
    """What does not serve is missed now, what is only old is not; whether it came well, `start` says."""
    if down:
        remove_outdated_one_shots(project, project.with_needs(down))
        project.docker.remove([one for one in project.containers(*down) if project.changed(one)])
        project.docker.compose_aloud("up", "--detach", "--no-build", "--no-recreate", *down)


def was_given_up(project: Project, service: Service, before: str) -> bool:
    """Whether this folder's release was rolled back from, to that of before, or its roll was killed."""
    built = project.docker.image(service.image)
    return bool(before) and before != built == project.docker.image(service.tag("given-up"))


def leave(project: Project, service: Service, before: str) -> str:
    """That release goes on; what this folder holds is for whoever decided against it to bring in."""
    project.docker.run("tag", before, service.image)
    publish_routes(project, service.name)
    return (
        f"{service.name}: {project.docker.release(before)} serves on, since the roll to another release was not finished "
        f"or was taken back. To this folder's: make roll SERVICE={service.name}"
    )


def start(project: Project, names: Sequence[str], left: set[str], scope: Sequence[Service]) -> None:
    """Whatever does not run, and what compose alone can make anew: stores, and who owns a port."""
    remove_outdated_one_shots(project, [one.name for one in scope])
    wanted = list(names)
    if left:
        wanted = [name for name in names or project.services if name not in left]
        wanted = [name for name in wanted if not project.services[name].one_shot]
    if left and not wanted:
        return
    if not project.docker.compose_aloud("up", "--no-build", "--wait", *wanted):
        raise Failed("not everything became ready")


# ---- The command line -------------------------------------------------------------------------------------------


def main() -> None:
    """Everything of one project happens one at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("roll", help="bring one service to this folder's release")
    verb.add_argument("service")
    verb.add_argument("--to", choices=["previous"], help="to what served before instead, without a build")
    verb = verbs.add_parser("up", help="start what does not run, and roll what has changed")
    verb.add_argument("services", nargs="*")
    said = parser.parse_args()
    for ending in ENDINGS:
        signal.signal(ending, interrupt)
    project = os.environ.get("PROJECT", "")
    try:
        with one_at_a_time(Docker(project).configuration()["name"]) as lock:
            here = Project(Docker(project, lock))
            if said.verb == "up":
                up(here, said.services)
            else:
                roll(here, said.service, to_previous=said.to == "previous")
    except (Refused, Failed) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(reason(error))


@contextlib.contextmanager
def one_at_a_time(project: str) -> Iterator[int]:
    """Wait until nobody else changes the project, nor what a killed run started: that holds the lock on."""
    path = Path(tempfile.gettempdir()) / f"gatehouse-{project}.lock"
    try:
        lock = os.open(path, os.O_RDONLY)  # also if it is another user's
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{project}: another make up or make roll is at work, and goes first")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def interrupt(_: int, __: FrameType | None) -> NoReturn:
    hear_nobody()
    raise Failed("interrupted")


def hear_nobody() -> None:
    """What was begun is taken back first, however impatient anybody is."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)


def say(line: str) -> None:
    print(line, flush=True)


def warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
