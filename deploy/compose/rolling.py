"""Bring one service to a release: build, bring in the new containers, wait until they are ready, retire the old ones.

What is there is classified, never assumed: a run that was killed anywhere is finished by the next. The engine remembers
for us. `:latest` is what compose starts, `:previous` is what served before it, and `:unfinished`, while a roll is under
way, is the image that it began from. `:given-up` is what was rolled back from, or what a killed roll was bringing in,
until another roll ends well.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from containers import Container, Docker
from project import Failed, Project, Refused, Service, hear_nobody, routes_of, say, warn
from release import read_release

LOOK_SECONDS: Final = 0.5
# A service is ready by so much after its image's start_period, or never.
GRACE_SECONDS: Final = 1
# Until every gateway has looked the name up again.
NAMES_SECONDS: Final = 5


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
