"""People from another system: JSON lines of our own form, and what a real Django dumps."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Service
from sqlalchemy import text

from user_service.audit.models import Origin
from user_service.cli import main
from user_service.imports.reading import BrokenFile, Row, rows
from user_service.imports.service import Importer
from user_service.main import Parts

OLD_PASSWORD = "the old one, from Django"
CHEAP = "pbkdf2_sha256$1000$salt$8c0VUF/0FEwzzOdLDn4QHQ+3mRGiGYt4W8CUhVGXRnE="


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)


@pytest.fixture
def dump(django: None, tmp_path: Path) -> Iterator[Path]:
    """What `manage.py dumpdata` writes for three people and a group."""
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    Group.objects.create(name="staff")
    ada = User(username="ada", email="Ada@Example.com", first_name="Ada", last_name="Lovelace")
    ada.date_joined = datetime(2015, 12, 10, tzinfo=UTC)
    bob = User(username="bob", email="bob@example.com", is_active=False)
    for user in (ada, bob):
        user.set_password(OLD_PASSWORD)
        user.save()
    nobody = User(username="nobody", email="")
    nobody.set_unusable_password()
    nobody.save()
    path = tmp_path / "people.json"
    call_command("dumpdata", "auth.group", "auth.user", indent=2, output=str(path), verbosity=0)
    yield path
    call_command("flush", interactive=False, verbosity=0)


def lines(path: Path, *people: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" if one is not None else "{broken\n" for one in people))
    return path


def someone(number: int, **more: object) -> dict[str, Any]:
    return {"id": number, "email": f"p{number}@example.com", "name": f"P {number}", **more}


async def by_email(service: Service, email: str) -> dict[str, Any]:
    found: dict[str, Any] = (await service.admin().get("/v1/users", params={"email": email})).json()
    assert len(found["items"]) == 1
    one: dict[str, Any] = found["items"][0]
    return one


@pytest.mark.usefixtures("command")
def test_a_dump_of_django_comes_in_as_it_is(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(dump)]) == 1
    said = capsys.readouterr()
    assert (
        "2 added (0 of them must set a new password), 0 were here already, 1 rows about something else"
        in said.out
    )
    nobody_at = dump.read_text().count("\n", 0, dump.read_text().index('"username": "nobody"'))
    line = int(said.err.splitlines()[0].split()[1].rstrip(":"))
    assert 0 < nobody_at - line < 12
    rejected = dump.with_name("people.json.rejected")
    assert json.loads(rejected.read_text())["fields"]["username"] == "nobody"
    assert rejected.stat().st_mode & 0o077 == 0
    assert main(["import", str(dump)]) == 1
    assert "0 added" in capsys.readouterr().out


async def test_the_first_sign_in_checks_the_old_hash_and_replaces_it(
    dump: Path, service: Service, parts: Parts
) -> None:
    with dump.open() as file:
        await Importer(parts.database, Origin("command"), lambda *_: None, lambda _: None).run(file)

    async def stored() -> str:
        found = await parts.database.read(
            lambda connection: connection.execute(
                text("SELECT password_hash FROM users WHERE email_key = 'ada@example.com'")
            )
        )
        return str(found.scalar_one())

    assert (await stored()).startswith("pbkdf2_sha256$")
    assert (await service.verify("ada@example.com", "wrong"))["reason"] == "wrong_password"
    assert (await service.verify("ADA@example.com", OLD_PASSWORD))["verified"] is True
    assert (await stored()).startswith("$argon2id$")
    assert (await service.verify("ada@example.com", OLD_PASSWORD))["verified"] is True
    assert (await service.verify("bob@example.com", OLD_PASSWORD))["reason"] == "disabled"
    ada = await by_email(service, "ada@")
    assert (ada["email"], ada["name"], ada["external_id"]) == ("Ada@Example.com", "Ada Lovelace", "1")
    assert ada["created_at"].startswith("2015-12-10T00:00:00")
    assert ada["roles"] == []


@pytest.mark.usefixtures("command")
def test_bad_rows_are_told_by_line_and_kept_to_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(
        tmp_path / "people.jsonl",
        someone(1, password=CHEAP),
        None,
        someone(2, email="canary at example"),
        someone(3, colour="red"),
        someone(4, email="P1@example.com"),
        someone(1),
        [],
        someone(5, password="md5$salt$0123456789abcdef0123456789abcdef"),
    )
    assert main(["import", str(file)]) == 1
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.err.splitlines()[:-1]] == [
        "line 2", "line 3", "line 4", "line 7", "line 5",
    ]  # fmt: skip
    assert "canary" not in said.err + said.out
    assert "2 added (1 of them must set a new password), 1 were here already" in said.out
    kept = (tmp_path / "people.jsonl.rejected").read_text().splitlines()
    assert len(kept) == 5
    assert kept[0] == "{broken"
    mended = tmp_path / "mended.jsonl"
    mended.write_text(kept[1].replace("canary at example", "mended@example.com") + "\n")
    assert main(["import", str(mended)]) == 0
    assert not mended.with_name("mended.jsonl.rejected").exists()


@pytest.mark.usefixtures("command")
def test_a_file_can_come_through_a_pipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lines(tmp_path / "people.jsonl", someone(1), None).open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["import", "-"]) == 1
    said = capsys.readouterr()
    assert said.err == "line 2: not a JSON object\n"
    assert "1 added" in said.out


@pytest.mark.usefixtures("command")
def test_importing_again_changes_nothing_and_brings_in_who_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "people.jsonl", *(someone(number) for number in range(1200)))
    assert main(["import", str(file)]) == 0
    lines(file, *(someone(number) for number in range(1201)))
    assert main(["import", str(file)]) == 0
    assert "1 added (1 of them must set a new password), 1200 were here already" in capsys.readouterr().out


def read(path: Path, content: str) -> list[Row]:
    path.write_text(content)
    with path.open() as file:
        return list(rows(file))


def test_an_array_is_read_value_by_value_with_its_lines(tmp_path: Path) -> None:
    padding = "x" * 300_000
    content = '\n[\n{"a": 1},\n\n{"b":\n "' + padding + '"}\n,{"c": "]}"}]'
    assert [(row.line, list(row.value)) for row in read(tmp_path / "f", content)] == [
        (3, ["a"]), (5, ["b"]), (7, ["c"]),
    ]  # fmt: skip


def test_a_broken_array_gives_what_came_before_and_says_where_it_broke(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text('[{"a": 1},\n{"b": }]')
    found: list[Row] = []
    with path.open() as file, pytest.raises(BrokenFile, match="line 2"):
        found.extend(rows(file))
    path.write_text('[{"a": 1}')
    with path.open() as file, pytest.raises(BrokenFile):
        list(rows(file))


def test_a_file_without_anybody_is_no_error(tmp_path: Path) -> None:
    assert read(tmp_path / "f", "") == read(tmp_path / "f", "[]") == read(tmp_path / "f", "\n\n") == []


def test_a_line_without_end_is_one_bad_row(tmp_path: Path) -> None:
    found = read(tmp_path / "f", "x" * 3_000_000 + '\n{"a": 1}\n')
    assert [(row.line, row.value) for row in found] == [(1, None), (2, {"a": 1})]
