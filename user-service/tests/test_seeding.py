"""People who are made up for trying out sizes."""

import pytest
from conftest import Service
from sqlalchemy import text

from user_service.cli import main
from user_service.imports.seeding import seed
from user_service.main import Parts
from user_service.users.email import parse_email


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)


@pytest.mark.usefixtures("command")
def test_people_are_made_up_with_progress_as_often_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed", "6500"]) == main(["seed", "1"]) == 0
    told = capsys.readouterr().err
    assert "5,000 of 6,500 people" in told
    assert "6,500 people made up in" in told


async def test_made_up_people_are_found_like_real_ones_and_told_to_nobody(
    service: Service, parts: Parts
) -> None:
    counts = list[int]()
    await seed(parts.database, 300, counts.append)
    assert counts == [300]
    found = (await service.admin().get("/v1/users?limit=200&name=ada")).json()["items"]
    assert found
    assert all(parse_email(one["email"]).address == one["email"] for one in found)
    assert (await service.admin().get("/v1/users", params={"email": found[0]["email"]})).json()["items"]
    told = await parts.database.read(
        lambda connection: connection.execute(text("SELECT count(*) FROM outbox"))
    )
    assert told.scalar_one() == 0
