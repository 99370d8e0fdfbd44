"""Secrets are made once, belong to their readers, and never replace what data was written under."""

import hashlib
import stat
import subprocess
from pathlib import Path

import pytest

from make_secrets import ACLS, OWNERS, SECRETS, Refused, make

PLACES = [place for secret in SECRETS for place in secret.places]


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    """A MySQL that has been written to, and a Redis that has not."""
    mysql, redis = tmp_path / "mysql", tmp_path / "redis"
    mysql.mkdir()
    redis.mkdir()
    (mysql / "ibdata1").touch()
    return [mysql, redis]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "secrets"
    make(root, [], own=False)
    return root


def test_every_secret_is_made_once_and_kept_afterwards(tmp_path: Path, data: list[Path]) -> None:
    root = tmp_path / "secrets"
    assert make(root, [tmp_path / "no-store-yet"], own=False) == len(SECRETS)
    first = contents(root)
    assert set(first) == {*PLACES, *ACLS}
    assert make(root, data, own=False) == 0
    assert contents(root) == first


def test_only_its_consumer_reads_a_secret(root: Path) -> None:
    assert {stat.S_IMODE((root / place).stat().st_mode) for place in PLACES} == {0o400}
    assert {stat.S_IMODE((root / consumer).stat().st_mode) for consumer in OWNERS} == {0o700}


def test_who_checks_a_password_and_who_presents_it_hold_the_same_one(root: Path) -> None:
    for secret in SECRETS:
        assert len({(root / place).read_text() for place in secret.places}) == 1
    assert len({(root / secret.places[0]).read_text() for secret in SECRETS}) == len(SECRETS)


@pytest.mark.parametrize("secret", [s for s in SECRETS if not s.renewable], ids=lambda s: s.places[0])
def test_a_lost_secret_is_not_replaced_over_data(root: Path, data: list[Path], secret: object) -> None:
    places = next(s.places for s in SECRETS if s is secret)
    for place in places:
        (root / place).unlink()
    before = contents(root)
    with pytest.raises(Refused, match=places[0]):
        make(root, data, own=False)
    assert contents(root) == before


def test_an_empty_file_is_a_lost_secret(root: Path, data: list[Path]) -> None:
    path = root / "auth-service/refresh_key"
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(Refused, match="refresh_key"):
        make(root, data, own=False)


def test_a_renewable_secret_arrives_with_a_release_although_there_is_data(
    root: Path, data: list[Path]
) -> None:
    (root / "auth-service/device_key").unlink()
    assert make(root, data, own=False) == 1
    assert (root / "auth-service/device_key").read_text()


def test_a_copy_that_is_missing_comes_back_from_the_other(root: Path, data: list[Path]) -> None:
    copy = root / "user-service/database_password"
    value = copy.read_text()
    copy.unlink()
    make(root, data, own=False)
    assert copy.read_text() == value


@pytest.mark.parametrize("chosen", ["  pässwörd  ", "a#b\\c'd\"e", "p@ss:w/rd%20", "line\r\nline"])
def test_a_password_that_an_operator_chose_is_kept_byte_for_byte(
    root: Path, data: list[Path], chosen: str
) -> None:
    for place in ("user-service/database_password", "user-service-database/users_password"):
        (root / place).unlink()
    (root / "user-service/database_password").write_bytes(f"{chosen}\n".encode())
    make(root, data, own=False)
    for place in ("user-service/database_password", "user-service-database/users_password"):
        assert (root / place).read_bytes() == chosen.encode()


def test_the_sql_for_a_mysql_of_ones_own_carries_both_passwords_as_they_are(root: Path) -> None:
    place = root / "user-service-database/users_password"
    place.chmod(0o600)
    place.write_text("it's \\ ä #\n")
    printed = grants(f"SECRETS={root}")
    owners = (root / "user-service-migrate/database_password").read_text()
    assert "ALTER USER 'users'@'%' IDENTIFIED BY 'it''s \\\\ ä #';" in printed
    assert f"ALTER USER 'users_owner'@'%' IDENTIFIED BY '{owners}';" in printed
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON `users`.* TO 'users'@'%';" in printed
    assert owners not in grants()


def grants(*more: str) -> str:
    command = ["make", "--silent", "--no-print-directory", "grants", "SERVICE=user-service", *more]
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def test_copies_that_differ_are_nobodys_to_choose_from(root: Path) -> None:
    copy = root / "user-service/database_password"
    copy.chmod(0o600)
    copy.write_text("something else")
    with pytest.raises(Refused, match="differ"):
        make(root, [], own=False)


def test_redis_knows_passwords_by_digest_and_nobody_without_one(root: Path) -> None:
    text = (root / "redis/users.acl").read_text()
    password = (root / "auth-service/redis_password").read_text()
    assert text.startswith("user default off ")
    assert f"user auth on #{hashlib.sha256(password.encode()).hexdigest()} " in text
    assert password not in text


def test_whoever_replays_the_append_only_file_may_do_what_was_written(root: Path) -> None:
    rules = (root / "redis/users.acl").read_text().splitlines()[0].split()
    assert {"off", "~*", "&*", "+@all"} <= set(rules)


def test_changed_rules_reach_an_existing_installation_and_are_told(
    root: Path, data: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    acl = root / "redis/users.acl"
    acl.chmod(0o600)
    acl.write_text("user default off\n")
    make(root, data, own=False)
    assert "user follower on" in acl.read_text()
    assert "redis/users.acl has changed" in capsys.readouterr().out
    make(root, data, own=False)
    assert not capsys.readouterr().out


def test_a_database_is_not_made_where_no_mysql_answers_and_its_operator_is_told_why() -> None:
    made = subprocess.run(
        ["bash", Path(__file__).parents[1] / "make_database", "users"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 1
    assert "up -d --wait mysql" in made.stderr


def test_a_broken_earlier_run_leaves_nothing_in_the_way(root: Path, data: list[Path]) -> None:
    (root / "auth-service/.device_key.new").write_text("half")
    (root / "auth-service/device_key").unlink()
    make(root, data, own=False)
    assert not list(root.rglob("*.new"))
