"""People from another system: JSON lines of our own form, and what a real Django dumps."""

import asyncio
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Service
from sqlalchemy import text

from user_service.audit.models import AuditContext
from user_service.cli import main
from user_service.imports.reading import BrokenFile, Row, rows
from user_service.imports.service import Importer
from user_service.main import Parts

OLD_PASSWORD = "the old one, from Django"
DJANGO_SETTINGS = """
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers." + name + "PasswordHasher"
    for name in ("PBKDF2", "BCrypt", "BCryptSHA256", "Scrypt", "Argon2")
]
"""
DJANGO_PEOPLE = f"""
from datetime import datetime, timezone
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
Group.objects.create(name="staff")
came = datetime(2015, 12, 10, tzinfo=timezone.utc)
for kind in ("pbkdf2_sha256", "bcrypt", "bcrypt_sha256", "scrypt", "argon2"):
    User.objects.create(
        username=kind, email=kind + "@Example.com", first_name="Ada", last_name="Lovelace",
        date_joined=came, password=make_password("{OLD_PASSWORD}", hasher=kind),
    )
User.objects.create(
    username="bob", email="bob@example.com", last_name="Bob", is_active=False, is_superuser=True, password="!unusable",
)
User.objects.create(username="nobody", email="")
"""
CHEAP = "pbkdf2_sha256$1000$salt$8c0VUF/0FEwzzOdLDn4QHQ+3mRGiGYt4W8CUhVGXRnE="


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)


@pytest.fixture(scope="session")
def django_dump(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `manage.py dumpdata` of a real Django project writes: a group, and people with every kind of hash."""
    folder = tmp_path_factory.mktemp("django")
    run = partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
    run([sys.executable, "-m", "django", "startproject", "old", "."])
    with (folder / "old" / "settings.py").open("a") as settings:
        settings.write(DJANGO_SETTINGS)
    manage = (sys.executable, "manage.py")
    run([*manage, "migrate", "--verbosity=0"])
    run([*manage, "shell", "--verbosity=0", "--command", DJANGO_PEOPLE])
    return run([*manage, "dumpdata", "auth.group", "auth.user"]).stdout


@pytest.fixture
def dump(django_dump: str, tmp_path: Path) -> Path:
    path = tmp_path / "people.json"
    path.write_text(django_dump)
    return path


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
def test_a_dump_of_django_comes_in_as_it_is_and_once(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(dump)]) == 1
    told = capsys.readouterr().err
    assert "8 rows, 6 added, " in told  # as it went
    assert "6 added (1 of them must set a new password), 0 were here already, 1 rows about something" in told
    assert "line 1, row 8: email: the row has none, and people sign in with it" in told.splitlines()
    assert "rows about something else: auth.group (1)" in told.splitlines()
    assert "filled fields of people that are not kept: username (6), is_superuser (1)" in told.splitlines()
    rejected = dump.with_name("people.json.rejected")
    assert json.loads(rejected.read_text())["fields"]["username"] == "nobody"
    assert rejected.stat().st_mode & 0o077 == 0
    assert main(["import", str(dump)]) == 1
    assert "0 added (0 of them must set a new password), 6 were here already" in capsys.readouterr().err


@pytest.mark.usefixtures("command")
async def test_somebody_who_was_imported_is_found_by_their_old_id(
    service: Service, parts: Parts, tmp_path: Path
) -> None:
    file = lines(tmp_path / "people.jsonl", someone(17), someone(170), someone(1, id="a/b c"))
    assert await asyncio.to_thread(main, ["import", str(file)]) == 0
    await service.register()

    async def found(**query: str) -> list[str]:
        response = await service.admin().get("/v1/users", params=query)
        return [one["external_id"] for one in response.json()["items"]]

    assert await found(external_id="17") == ["17"]
    assert await found(external_id="a/b c") == ["a/b c"]
    assert await found(external_id="17", status="disabled") == []
    assert await found(external_id="") == await found(external_id="A/B C") == []
    refused = await service.admin().get("/v1/users", params={"external_id": "1" * 191})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "external_id")


@pytest.mark.usefixtures("command")
async def test_the_old_and_the_new_id_of_everybody_who_was_imported_are_exported(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("user_service.imports.exporting.BATCH", 2)
    file = lines(tmp_path / "people.jsonl", *(someone(number) for number in range(5)))
    assert await asyncio.to_thread(main, ["import", str(file)]) == 0
    await service.register()
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["export"]) == 0
    written = capsys.readouterr()
    ids = {pair["external_id"]: pair["id"] for pair in map(json.loads, written.out.splitlines())}
    people = (await service.admin().get("/v1/users")).json()["items"]
    assert ids == {one["external_id"]: one["id"] for one in people if one["external_id"] is not None}
    assert (len(ids), written.err) == (5, "5 people had an id before\n")


async def stored_hash(parts: Parts, email_key: str) -> str:
    found = await parts.database.read(
        lambda connection: connection.execute(
            text("SELECT password_hash FROM users WHERE email_key = :key"), {"key": email_key}
        )
    )
    return str(found.scalar_one())


async def test_the_first_sign_in_checks_the_old_hash_and_replaces_it(
    dump: Path, service: Service, parts: Parts
) -> None:
    with dump.open() as file:
        await Importer(parts.database, AuditContext("command"), lambda *_: None, lambda _: None).run(file)
    for kind in ("pbkdf2_sha256", "bcrypt", "bcrypt_sha256", "scrypt", "argon2"):
        email = f"{kind}@example.com"
        assert (await stored_hash(parts, email)).startswith(f"{kind}$")
        assert (await service.verify(email, "wrong"))["reason"] == "wrong_password"
        assert (await service.verify(email.upper(), OLD_PASSWORD))["verified"] is True
        assert (await stored_hash(parts, email)).startswith("$argon2id$")
        assert (await service.verify(email, OLD_PASSWORD))["verified"] is True
    assert (await service.verify("bob@example.com", OLD_PASSWORD))["verified"] is False


async def test_once_somebody_was_imported_every_refusal_takes_a_second(
    service: Service, parts: Parts, tmp_path: Path
) -> None:
    """A hash of Django's costs ten of ours: who has one must not be refused later than nobody is."""
    assert any([await refused_after(service, "nobody@example.com") < 1 for _ in range(5)])
    with lines(tmp_path / "people.jsonl", someone(1, password=CHEAP)).open() as file:
        await Importer(parts.database, AuditContext("command"), ignore, ignore).run(file)
    for email in ("p1@example.com", "nobody@example.com", "no address"):
        assert await refused_after(service, email) >= 1


async def test_a_caller_that_waits_is_told_at_once_of_a_refusal_and_for_how_long_to_keep_it(
    service: Service, parts: Parts, tmp_path: Path
) -> None:
    with lines(tmp_path / "people.jsonl", someone(1, password=CHEAP)).open() as file:
        await Importer(parts.database, AuditContext("command"), ignore, ignore).run(file)
    path = "/internal/v1/credentials/verify?caller_waits=true"
    for email in ("p1@example.com", "nobody@example.com"):
        body = {"email": email, "password": "not the password"}
        began = time.monotonic()
        verdict = (await service.auth_service().post(path, json=body)).json()
        told = time.monotonic() - began
        # Both together are the second that a refusal takes; what was measured here holds a little more.
        assert not verdict["verified"]
        assert 0 < verdict["wait"] < 1 <= verdict["wait"] + told


async def refused_after(service: Service, email: str) -> float:
    began = time.monotonic()
    assert not (await service.verify(email, "not the password"))["verified"]
    return time.monotonic() - began


def ignore(*_: object) -> None:
    pass


async def test_who_comes_from_django_keeps_id_name_address_and_dates_and_gets_no_rights(
    dump: Path, service: Service, parts: Parts
) -> None:
    with dump.open() as file:
        await Importer(parts.database, AuditContext("command"), lambda *_: None, lambda _: None).run(file)
    ada, bob = await by_email(service, "pbkdf2_sha256@"), await by_email(service, "bob@")
    assert (ada["email"], ada["name"]) == ("pbkdf2_sha256@Example.com", "Ada Lovelace")
    assert (ada["external_id"], ada["status"]) == ("1", "active")
    assert ada["created_at"].startswith("2015-12-10T00:00:00")
    assert (bob["name"], bob["status"], bob["roles"]) == ("Bob", "disabled", [])


def django_row(**fields: object) -> dict[str, Any]:
    given = {"email": "ann@example.com", "password": CHEAP, **fields}
    return {"model": "people.user", "pk": 7, "fields": {k: v for k, v in given.items() if v is not ...}}


NAMED: list[tuple[dict[str, Any], str]] = [
    (django_row(name="Ann Lee", username="ann77"), "Ann Lee"),
    (django_row(name=" Ann Lee ", first_name=None, last_name=None), "Ann Lee"),
    (django_row(name=None, first_name="Ann", last_name="Lee"), "Ann Lee"),
    (django_row(name="", first_name="Ann", last_name=None), "Ann"),
    (django_row(first_name="  ", last_name="Lee"), "Lee"),
    (django_row(name="Ann Lee", first_name="Ann", last_name="Lee"), "Ann Lee"),
    (django_row(first_name="A" * 150, last_name="L" * 49), f"{'A' * 150} {'L' * 49}"),
    (django_row(first_name="Ann", username=None, date_joined=None), "Ann"),
]
NAMELESS = [
    django_row(username="ann77"),
    django_row(username="ann77", first_name="", last_name=""),
    django_row(username="ann77", first_name=None, last_name=None, name=None),
    django_row(username="ann77", name=" "),
]


async def brought_in(
    parts: Parts, path: Path, *rows: object, **more: Any
) -> tuple[list[str], list[str], Any]:
    """What was told of rejected rows and of changed ones, and the tally."""
    rejected, changed = list[str](), list[str]()
    importer = Importer(
        parts.database,
        AuditContext("command"),
        lambda row, why: rejected.append(f"{row.number}: {why}"),
        ignore,
        change=lambda row, what: changed.append(f"{row.number}: {what}"),
        **more,
    )
    with lines(path, *rows).open() as file:
        return rejected, changed, await importer.run(file)


@pytest.mark.parametrize(("row", "name"), NAMED)
async def test_a_name_comes_from_whichever_fields_a_user_model_has(
    service: Service, parts: Parts, tmp_path: Path, row: dict[str, Any], name: str
) -> None:
    assert (await brought_in(parts, tmp_path / "dump", row))[:2] == ([], [])
    assert (await by_email(service, "ann@"))["name"] == name


@pytest.mark.parametrize("row", NAMELESS)
async def test_no_name_is_made_up_unless_the_operator_says_from_what(
    service: Service, parts: Parts, tmp_path: Path, row: dict[str, Any]
) -> None:
    rejected, _, _ = await brought_in(parts, tmp_path / "dump", row)
    assert rejected == ["1: name: the row has none, --name-from=username or --name-from=email would give one"]
    rejected, changed, tally = await brought_in(parts, tmp_path / "dump", row, name_from="username")
    assert (rejected, changed) == ([], ["1: name: the row has none, the username stands for it"])
    assert (tally.added, tally.changed, dict(tally.left_out)) == (1, 1, {})
    assert (await by_email(service, "ann@"))["name"] == "ann77"


async def test_a_row_without_a_name_may_take_the_first_part_of_its_address(
    service: Service, parts: Parts, tmp_path: Path
) -> None:
    row = django_row(username=None)
    assert (await brought_in(parts, tmp_path / "dump", row, name_from="username"))[0] == [
        "1: name: the row has none, nor a username"
    ]
    _, changed, _ = await brought_in(parts, tmp_path / "dump", row, name_from="email")
    assert changed == ["1: name: the row has none, the address stands for it"]
    assert (await by_email(service, "ann@"))["name"] == "ann"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (django_row(email=...), "email: the row has none, and people sign in with it"),
        (django_row(email=None), "email: the row has none, and people sign in with it"),
        (
            django_row(email=" ", username="ann@example.com"),
            "email: the row has none, and people sign in with it",
        ),
        (django_row(first_name="A" * 150, last_name="L" * 150), "name: 301 characters, and 200 fit"),
        (django_row(name="A" * 255), "name: 255 characters, and 200 fit"),
        (django_row(first_name=7), "first_name: string type"),
        (django_row(name="Ann", is_active=None), "is_active: bool type"),
    ],
)
async def test_a_row_of_django_that_stays_out_says_why(
    parts: Parts, tmp_path: Path, row: dict[str, Any], why: str
) -> None:
    rejected, _, tally = await brought_in(parts, tmp_path / "dump", row)
    assert rejected == [f"1: {why}"]
    assert tally.other_models.total() == tally.added == 0


async def test_whoever_shares_an_address_stays_out_and_is_named(
    service: Service, parts: Parts, tmp_path: Path
) -> None:
    people = [
        django_row(name="Ann") | {"pk": 1},
        django_row(name="Ann Two") | {"pk": 2},
        django_row(name="Ann Three", email="ANN@Example.com") | {"pk": 3},
    ]
    rejected, _, tally = await brought_in(parts, tmp_path / "dump", *people)
    why = "email: another person has this address; capitals make no difference"
    assert (rejected, tally.added) == ([f"2: {why}", f"3: {why}"], 1)
    assert (await by_email(service, "ann@"))["name"] == "Ann"


async def test_what_a_row_loses_is_told(parts: Parts, tmp_path: Path) -> None:
    rejected, changed, tally = await brought_in(
        parts,
        tmp_path / "dump",
        django_row(
            name="Ann Lee", first_name="Annabel", password="md5$salt$00", phone="1", groups=[1], bio=""
        ),
        django_row(name="Bob", email="bob@example.com", password="!x", username="bob77") | {"pk": 8},
        {"model": "account.emailaddress", "pk": 1, "fields": {"email": "ann@example.com", "verified": True}},
    )
    assert rejected == []
    assert changed == [
        "1: first_name, last_name: name is another, and is kept;"
        " password: not a hash that can be checked here; a new password must be set"
    ]
    assert dict(tally.left_out) == {"phone": 1, "groups": 1, "username": 1}
    assert dict(tally.other_models) == {"account.emailaddress": 1}
    assert tally.without_password == 2


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
    assert [line.partition(":")[0] for line in said.err.splitlines() if ", row" in line] == [
        "line 2, row 2", "line 3, row 3", "line 4, row 4", "line 7, row 7", "line 5, row 5",
    ]  # fmt: skip
    assert "canary" not in said.err + said.out
    assert "2 added (1 of them must set a new password), 1 were here already" in said.err
    assert "line 8 (row 8) changed: password: not a hash that can be checked here" in said.err
    kept = (tmp_path / "people.jsonl.rejected").read_text().splitlines()
    assert len(kept) == 5
    assert kept[0] == "{broken"
    mended = tmp_path / "mended.jsonl"
    mended.write_text(kept[1].replace("canary at example", "mended@example.com") + "\n")
    assert main(["import", str(mended)]) == 0
    assert not mended.with_name("mended.jsonl.rejected").exists()


@pytest.mark.usefixtures("command")
def test_rows_that_are_being_mended_stay_when_the_file_is_imported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "people.jsonl", someone(1), someone(2, email="nobody"))
    rejected = tmp_path / "people.jsonl.rejected"
    assert main(["import", str(file)]) == 1
    mended = json.dumps(someone(2)) + "\n"
    rejected.write_text(mended)
    assert main(["import", str(file)]) == 1
    assert "nobody" in rejected.read_text()
    earlier = tmp_path / "people.jsonl.rejected.old"
    assert earlier.read_text() == mended
    assert f"the rows that were rejected before are in {earlier} now" in capsys.readouterr().err


@pytest.mark.usefixtures("command")
def test_a_file_is_not_emptied_by_keeping_its_rejected_rows_in_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "people.jsonl", someone(1))
    link = tmp_path / "link"
    link.symlink_to(file)
    before = file.read_bytes()
    assert main(["import", str(file), "--rejected", str(link)]) == 1
    assert "--rejected is the file that is read" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.usefixtures("command")
def test_through_a_pipe_the_rejected_rows_come_out_at_the_other_end(tmp_path: Path) -> None:
    file = lines(tmp_path / "people.jsonl", someone(1), None)
    with file.open() as people:
        said = subprocess.run(
            [sys.executable, "-m", "user_service.cli", "import", "-"],
            stdin=people, capture_output=True, text=True,
        )  # fmt: skip
    assert (said.returncode, said.stdout) == (1, "{broken\n")
    assert "line 2, row 2: not a JSON object" in said.stderr.splitlines()
    assert "1 added" in said.stderr


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id": 2, "email": "b@example.com", "name": "Jos\xe9"}',
        b'{"id": 2, "email": "b@example.com", "name": "\\ud800"}',
        b'{"id": "\\udcff", "email": "b@example.com", "name": "B"}',
        b'{"id": 2, "email": "b@example.com", "name": "B", "created_at": "0001-01-01T00:00:00Z"}',
        b'{"id": 2, "email": "b@example.com", "name": "B", "created_at": "9999-12-31T23:59:59-14:00"}',
        b'{"id": 2, "email": "b@example.com", "name": "B", "created_at": 1e400}',
        b'{"id": null, "email": "b@example.com", "name": "B"}',
        b'{"id": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda row: ascii(row[:90]),
)
@pytest.mark.usefixtures("command")
def test_no_row_keeps_the_others_out_and_a_bad_one_is_kept_to_the_byte(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "people.jsonl"
    good = json.dumps(someone(1)).encode(), json.dumps(someone(3)).encode()
    file.write_bytes(b"\n".join((good[0], bad, good[1])) + b"\n")
    assert main(["import", str(file)]) == 1
    assert file.with_name("people.jsonl.rejected").read_bytes() == bad + b"\n"
    file.write_bytes(b"\n".join(good))
    assert main(["import", str(file)]) == 0


@pytest.mark.usefixtures("command")
def test_importing_again_changes_nothing_and_brings_in_who_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "people.jsonl", *(someone(number) for number in range(1200)))
    assert main(["import", str(file)]) == 0
    lines(file, *(someone(number) for number in range(1201)))
    assert main(["import", str(file)]) == 0
    assert "1 added (1 of them must set a new password), 1,200 were here already" in capsys.readouterr().err


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
