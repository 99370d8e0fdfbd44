"""Start what does not run, and roll what has changed: `make up` on whatever is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from project import Failed, Project, Refused, Service, say
from rolling import (
    build,
    give_up,
    publish_routes,
    remove_outdated_one_shots,
    renew_secrets,
    replace,
    serving,
    stale_redis,
    tag_revision,
)


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
