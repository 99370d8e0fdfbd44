"""Which containers and image names are there after `make roll` and `make up`, by a docker that only takes notes.

What a real engine does with it, killed at each step and under load: tests-e2e/failures/test_rolls.py.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_docker import FakeDocker

from containers import Container
from converging import up
from project import Failed, Project, Refused
from release import read_release
from roll import one_at_a_time
from rolling import roll, who_stays

SERVICES: dict[str, Any] = {
    "secrets": {"image": "python:3.13-slim", "restart": "no"},
    "migrate": {"image": "of-a-test-people", "restart": "no", "depends_on": {"secrets": {}}},
    "people": {
        "image": "of-a-test-people",
        "build": {"context": "/nowhere"},
        "restart": "unless-stopped",
        "deploy": {"replicas": 2},
        "depends_on": {"migrate": {}},
    },
    "redis": {"image": "redis:8"},
}
A, B = "sha256:aaaaaaaaaaaa", "sha256:bbbbbbbbbbbb"
SERVE = {"c1": {"service": "people", "image": A}, "c2": {"service": "people", "image": A}}
LATEST, PREVIOUS, UNFINISHED, GIVEN_UP = (
    f"of-a-test-people:{tag}" for tag in ("latest", "previous", "unfinished", "given-up")
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks a name up here, and nobody presses Ctrl-C."""
    monkeypatch.setattr("rolling.NAMES_SECONDS", 0)
    monkeypatch.setattr("rolling.GRACE_SECONDS", 0)
    monkeypatch.setattr("rolling.hear_nobody", lambda: None)


def engine(**state: Any) -> FakeDocker:
    usual = {
        "services": SERVICES,
        "there": SERVE,
        "images": {LATEST: A},
        "built": B,
        "begins": {},
        "newer": "",
    }
    return FakeDocker(**usual | state)


def people(docker: FakeDocker) -> dict[str, str]:
    """Container -> image, of the service that is rolled here."""
    return {name: one["image"] for name, one in docker.there.items() if one["service"] == "people"}


def test_the_old_containers_go_once_the_new_are_ready() -> None:
    docker = engine(begins={"migrate": {"exit": 0}, "secrets": {"exit": 0}})
    roll(Project(docker), "people", to_previous=False)
    assert list(people(docker).values()) == [B, B]
    assert docker.images == {LATEST: B, PREVIOUS: A, "of-a-test-people:1.2.3": B}
    calls = docker.calls
    assert calls.index("stop c1") > max(n for n, call in enumerate(calls) if " --scale people=4 " in call)


@pytest.mark.parametrize(
    ("begins", "why"),
    [
        ({"people": {"exit": 3}}, "ended with exit code 3"),
        ({"people": {"health": "unhealthy"}}, "is unhealthy"),
        ({"people": {"health": "starting"}}, "is not ready after"),
        ({"migrate": {"exit": 1}}, "migrate ended with exit code 1"),
    ],
)
def test_a_release_of_no_use_is_told_with_its_last_lines_and_leaves_all_as_it_was(
    begins: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    docker = engine(begins=begins)
    with pytest.raises(Failed, match="serves as before"):
        roll(Project(docker), "people", to_previous=False)
    said = capsys.readouterr().err
    assert why in said
    assert f"the last lines of {next(iter(begins))}" in said
    assert people(docker) == {"c1": A, "c2": A}
    assert docker.images == {LATEST: A}
    assert not [call for call in docker.calls if call in ("stop c1", "stop c2")]


def test_the_old_ones_stay_where_no_new_ones_come() -> None:
    docker = engine(begins={"people": None})
    with pytest.raises(Failed, match="serves as before"):
        roll(Project(docker), "people", to_previous=False)
    assert people(docker) == {"c1": A, "c2": A}


def test_a_roll_back_is_one_command_and_the_next_up_leaves_it_so(capsys: pytest.CaptureFixture[str]) -> None:
    docker = engine(images={LATEST: A, PREVIOUS: B}, built=A)
    roll(Project(docker), "people", to_previous=True)
    rolled_back = people(docker)
    assert set(rolled_back.values()) == {B}
    assert docker.images[PREVIOUS] == A
    up(Project(docker), [])
    assert "serves on" in capsys.readouterr().out
    assert people(docker) == rolled_back
    assert docker.images[LATEST] == B


@pytest.mark.parametrize(
    "ended", [{}, {"c1": {"service": "people", "image": A, "status": "exited", "exit": 137}}]
)
def test_what_was_rolled_back_and_does_not_run_starts_with_the_release_of_before(
    ended: dict[str, Any],
) -> None:
    docker = engine(there=ended, images={LATEST: A, GIVEN_UP: B})
    up(Project(docker), [])
    assert docker.images[LATEST] == A, "compose starts it"
    assert "compose up --no-build --wait" in docker.calls, "of all, people included"


def test_what_was_rolled_back_gets_changed_settings_with_its_own_release() -> None:
    there = {"c1": {"service": "people", "image": A, "hash": "of other settings"}}
    docker = engine(there=there, images={LATEST: A, GIVEN_UP: B})
    for _ in "twice":
        up(Project(docker), [])
        assert set(people(docker).values()) == {A}
        assert "c1" not in people(docker)
        assert docker.images[GIVEN_UP] == B


def test_up_follows_a_tree_that_went_back_to_the_release_of_before() -> None:
    docker = engine(images={LATEST: A, PREVIOUS: B})
    up(Project(docker), [])
    assert set(people(docker).values()) == {B}


def test_there_is_nothing_before_the_first_release(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no release served here"):
        roll(Project(engine()), "people", to_previous=True)


@pytest.mark.parametrize("health", ["starting", "healthy"])
def test_up_takes_back_a_roll_that_was_killed_before_its_end(health: str) -> None:
    begun = {"service": "people", "image": B, "health": health}
    one_shot = {"service": "migrate", "image": B, "exit": 0}
    docker = engine(there=SERVE | {"c3": begun, "c4": one_shot}, images={LATEST: B, UNFINISHED: A})
    up(Project(docker), [])
    assert people(docker) == {"c1": A, "c2": A}
    assert docker.images[LATEST] == A
    assert "c4" not in docker.there, "compose would make people anew along with it"


def test_what_a_killed_roll_brought_in_waits_for_a_roll_and_the_next_release_for_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    docker = engine(images={LATEST: B, UNFINISHED: A})
    for _ in "twice":
        up(Project(docker), [])
        assert people(docker) == {"c1": A, "c2": A}
        assert capsys.readouterr().out.splitlines()[-1].endswith("make roll SERVICE=people")
    docker.built = "sha256:cccccccccccc"
    up(Project(docker), [])
    assert set(people(docker).values()) == {docker.built}
    assert GIVEN_UP not in docker.images


def test_a_roll_that_was_killed_before_it_had_built_anything_keeps_nothing_back() -> None:
    docker = engine(images={LATEST: A, UNFINISHED: A})
    up(Project(docker), [])
    assert set(people(docker).values()) == {B}


def test_fewer_than_one_container_of_a_service_is_refused_before_anything_stops() -> None:
    none = SERVICES["people"] | {"deploy": {"replicas": -1}}
    docker = engine(services=SERVICES | {"people": none})
    with pytest.raises(Refused, match="PEOPLE_REPLICAS is below 1"):
        up(Project(docker), [])
    assert people(docker) == {"c1": A, "c2": A}


def test_up_finishes_a_roll_that_was_killed_while_the_old_went() -> None:
    new = {f"c{number}": {"service": "people", "image": B} for number in (3, 4)}
    docker = engine(there={"c2": SERVE["c2"]} | new, images={LATEST: B, PREVIOUS: A})
    up(Project(docker), [])
    assert people(docker) == {"c3": B, "c4": B}


def test_up_touches_nothing_that_did_not_change() -> None:
    docker = engine(built=A)
    up(Project(docker), [])
    assert people(docker) == {"c1": A, "c2": A}
    assert not [call for call in docker.calls if call.startswith(("stop", "rm "))]


def test_up_rolls_what_has_changed() -> None:
    docker = engine()
    up(Project(docker), [])
    assert list(people(docker).values()) == [B, B]
    assert not [call for call in docker.calls if "--force-recreate" in call]


def test_up_starts_what_is_down_before_it_rolls_what_is_old() -> None:
    door = {"image": "of-a-test-door", "build": {"context": "/nowhere"}}
    dead = {"service": "door", "image": "sha256:old", "exit": 137}
    docker = engine(services=SERVICES | {"door": door}, there=SERVE | {"c9": dead})
    up(Project(docker), [])
    calls = docker.calls
    begun = calls.index("compose up --detach --no-build --no-recreate door")
    assert calls.index("rm --force c9") < begun < calls.index("stop c1"), "of this release, and at once"


def test_up_makes_changed_stores_anew_before_it_rolls_and_nothing_that_depends_on_a_release() -> None:
    beside = {"image": "of-a-test-beside", "depends_on": {"people": {}}}
    there = {
        "c8": {"service": "redis", "image": "sha256:old"},
        "c9": {"service": "beside", "image": "sha256:old"},
    }
    docker = engine(services=SERVICES | {"beside": beside}, there=SERVE | there)
    up(Project(docker), [])
    calls = docker.calls
    assert calls.index("compose up --no-build --wait redis") < calls.index("stop c1")
    assert calls.index("stop c1") < calls.index("compose up --no-build --wait")


def test_what_is_not_built_here_or_owns_a_port_is_not_rolled() -> None:
    published = SERVICES["people"] | {"ports": [{"target": 8000}]}
    docker = engine(services=SERVICES | {"people": published})
    for name, why in (("redis", "redis is not built here"), ("people", "port to itself")):
        with pytest.raises(Refused, match=why):
            roll(Project(docker), name, to_previous=False)


def test_nothing_is_rolled_while_redis_has_the_users_of_before() -> None:
    docker = engine(
        newer="/run/secrets/users.acl",
        there=SERVE | {"c9": {"service": "redis", "image": "sha256:redis"}},
    )
    with pytest.raises(Refused, match="First: docker compose restart redis"):
        roll(Project(docker), "people", to_previous=False)
    assert not [call for call in docker.calls if " up " in call or call.startswith("stop")]


def test_routes_are_published_once_the_new_containers_are_ready() -> None:
    routes = {"image": "of-a-test-people", "restart": "no"}
    people = SERVICES["people"] | {"depends_on": {"migrate": {}, "people-routes": {}}}
    docker = engine(services=SERVICES | {"people": people, "people-routes": routes})
    roll(Project(docker), "people", to_previous=False)
    calls = docker.calls
    (published,) = (number for number, call in enumerate(calls) if call.endswith("no-recreate people-routes"))
    assert max(n for n, call in enumerate(calls) if "--scale" in call) < published < calls.index("stop c1")


@pytest.mark.parametrize("newer", ["", "/run/secrets/users.acl"])
def test_up_restarts_a_redis_that_has_the_users_of_before(newer: str) -> None:
    there = SERVE | {"c9": {"service": "redis", "image": "sha256:redis"}}
    docker = engine(newer=newer, there=there, built=A)
    up(Project(docker), [])
    assert ("compose restart redis" in docker.calls) == bool(newer)


def test_one_change_of_a_project_waits_for_another_and_for_what_a_killed_one_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with one_at_a_time("of-a-test") as lock:
        orphan = subprocess.Popen(["sleep", "0.3"], pass_fds=(lock,))
    with one_at_a_time("of-a-test"):
        assert orphan.wait(5) == 0
    assert "goes first" in capsys.readouterr().out


def one(name: str, image: str = A, *, ready: bool = True) -> Container:
    status = "running" if ready else "exited"
    return Container(name, "people", image, "hash", name, "", status, 0, "", 0, 0)


def ids(containers: list[Container]) -> str:
    return "".join(sorted(container.id for container in containers))


def test_what_serves_stays_rather_than_what_does_not() -> None:
    assert ids(who_stays([one("1", ready=False), one("2", B)], 1, A, oldest=True)) == "2"
    assert ids(who_stays([one("1"), one("2", ready=False)], 1, A, oldest=False)) == "1"


def test_of_one_image_the_old_stay_until_the_new_are_ready_and_then_the_new() -> None:
    there = [one("1"), one("2"), one("3"), one("4")]
    assert ids(who_stays(there, 2, A, oldest=True)) == "12"
    assert ids(who_stays(there, 2, A, oldest=False)) == "34"


def test_what_was_begun_in_place_of_one_that_is_gone_does_not_stay() -> None:
    assert ids(who_stays([one("1"), one("3", B)], 2, A, oldest=True)) == "1"


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_release_is_the_last_commit_of_what_goes_into_its_image(tmp_path: Path) -> None:
    service = tmp_path / "people"
    service.mkdir()
    (service / "Dockerfile").touch()
    (service / "Dockerfile.dockerignore").write_text("*\n!people/code.py\n")
    (service / "code.py").touch()
    (service / "pyproject.toml").write_text('[project]\nname = "people"\nversion = "1.4.0"\n')
    build = {"context": str(tmp_path), "dockerfile": "people/Dockerfile"}
    assert read_release(build).revision == "dev"
    git(tmp_path, "init")
    git(tmp_path, "remote", "add", "origin", "https://me:secret@git.example/people.git")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "one")
    first = read_release(build)
    assert first.version == "1.4.0"
    assert first.source == "https://git.example/people.git"
    assert not first.dirty
    (service / "test_code.py").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "two")
    assert read_release(build) == first
    (service / "code.py").write_text("changed")
    assert read_release(build).dirty
