"""How often people may change what is theirs, and that what changes nothing leaves nothing."""

import asyncio
import io
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import PASSWORD, Person, Service
from httpx import Response
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.audit import repository as audit
from user_service.audit.models import AuditContext, AuditRow
from user_service.config import Settings
from user_service.events.models import OutboxRow
from user_service.main import Parts
from user_service.passwords.hashing import Place
from user_service.users.allowance import ADDRESSES_WANTED, PASSWORDS_REFUSED, Allowance, TooManyChanges
from user_service.users.models import utc_now

MOST = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"changes_per_hour": MOST})


def code(response: Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"] if response.content else ""


async def rename(person: Person, name: str) -> Response:
    headers = {"If-Match": (await person.client.get("/v1/users/me")).headers["etag"]}
    return await person.client.patch("/v1/users/me", json={"name": name}, headers=headers)


async def put_picture(person: Person, colour: str) -> Response:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return await person.client.put("/v1/users/me/avatar", content=file.getvalue())


def files(settings: Settings) -> list[Path]:
    return [path for path in settings.avatars_dir.rglob("*") if path.is_file()]


async def written(parts: Parts) -> tuple[int, int]:
    """The rows of the audit, and the events."""
    async with parts.database.engine.connect() as connection:
        audit = (await connection.execute(select(func.count()).select_from(AuditRow))).scalar_one()
        events = (await connection.execute(select(func.count()).select_from(OutboxRow))).scalar_one()
        return audit, events


async def test_a_name_is_changed_so_often_in_an_hour(service: Service, parts: Parts) -> None:
    ada, eve = await service.register(), await service.register()
    for number in range(MOST):
        assert (await rename(ada, f"Ada {number}")).status_code == 200
    before = await written(parts)
    for number in range(20):
        response = await rename(ada, f"Augusta {number}")
        assert code(response) == (429, "too_many_changes")
        assert 3500 < int(response.headers["retry-after"]) <= 3600
    assert await written(parts) == before
    assert (await ada.client.get("/v1/users/me")).json()["name"] == f"Ada {MOST - 1}"
    assert (await rename(eve, "Eva")).status_code == 200


async def test_name_and_picture_share_the_allowance(
    service: Service, parts: Parts, settings: Settings
) -> None:
    ada = await service.register()
    for colour in ("red", "green", "blue"):
        assert (await put_picture(ada, colour)).status_code == 204
    assert code(await rename(ada, "Augusta")) == (429, "too_many_changes")
    assert code(await put_picture(ada, "white")) == (429, "too_many_changes")
    assert len(files(settings)) == 1
    # Nobody has to keep a picture that they want to be rid of.
    assert (await ada.client.delete("/v1/users/me/avatar")).status_code == 204


async def test_a_thief_of_a_session_keeps_nobody_from_changing_the_password(service: Service) -> None:
    ada = await service.register()
    for number in range(MOST + 1):
        await rename(ada, f"Mallory {number}")
    password = PASSWORD
    for number in range(MOST):
        new = {"current_password": password, "new_password": f"another horse battery staple {number}"}
        assert code(await ada.client.post("/v1/users/me/password", json=new)) == (204, "")
        password = new["new_password"]
    new = {"current_password": password, "new_password": "another horse battery staple"}
    assert code(await ada.client.post("/v1/users/me/password", json=new)) == (429, "too_many_changes")


async def test_what_changes_nothing_leaves_no_row_and_costs_nothing(service: Service, parts: Parts) -> None:
    ada = await service.register()
    assert (await put_picture(ada, "red")).status_code == 204
    assert (await rename(ada, "Augusta")).status_code == 200
    before = await written(parts)
    tag = (await ada.client.get("/v1/users/me/avatar")).headers["etag"]
    for _ in range(MOST * 2):
        assert (await rename(ada, "Augusta")).status_code == 200
        assert (await put_picture(ada, "red")).headers["etag"] == tag
    assert await written(parts) == before
    for _ in range(2):
        assert (await ada.client.delete("/v1/users/me/avatar")).status_code == 204
    assert await written(parts) == (before[0] + 1, before[1])


async def test_a_picture_whose_file_was_lost_is_kept_when_it_comes_again(
    service: Service, parts: Parts
) -> None:
    ada = await service.register()
    await put_picture(ada, "red")
    await parts.avatars.forget_files(ada.id)
    assert (await put_picture(ada, "red")).status_code == 204
    assert (await ada.client.get("/v1/users/me/avatar")).status_code == 200


async def test_administrators_change_others_as_often_as_they_need(service: Service) -> None:
    ada, admin = await service.register(), service.admin()
    for number in range(MOST * 3):
        headers = {"If-Match": (await admin.get(f"/v1/users/{ada.id}")).headers["etag"]}
        changed = await admin.patch(f"/v1/users/{ada.id}", json={"name": f"A {number}"}, headers=headers)
        assert changed.status_code == 200
    assert (await rename(ada, "Ada")).status_code == 200


async def test_with_a_session_alone_nobody_guesses_the_password(service: Service, parts: Parts) -> None:
    ada = await service.register()
    for number in range(PASSWORDS_REFUSED.most):
        wrong = {
            "current_password": f"wrong password {number}",
            "new_password": "another horse battery staple",
        }
        assert code(await ada.client.post("/v1/users/me/password", json=wrong)) == (403, "wrong_password")
    before = await written(parts)
    right = {"current_password": PASSWORD, "new_password": "another horse battery staple"}
    moved = {"email": "ada@elsewhere.example", "password": PASSWORD}
    for path, body in (("password", wrong), ("password", right), ("email", moved)):
        assert code(await ada.client.post(f"/v1/users/me/{path}", json=body)) == (429, "too_many_changes")
    assert await written(parts) == before


async def test_guesses_at_once_learn_no_more_than_those_one_after_the_other(
    service: Service, parts: Parts
) -> None:
    ada = await service.register()
    before = await written(parts)

    async def guess(number: int) -> tuple[int, str]:
        body = {"current_password": f"wrong {number}", "new_password": "another horse battery staple"}
        return code(await ada.client.post("/v1/users/me/password", json=body))

    refused = Counter(await asyncio.gather(*map(guess, range(PASSWORDS_REFUSED.most + 8))))
    assert refused == {(403, "wrong_password"): PASSWORDS_REFUSED.most, (429, "too_many_changes"): 8}
    assert (await written(parts))[0] == before[0] + PASSWORDS_REFUSED.most


@pytest.mark.parametrize(
    ("path", "new"),
    [("password", "another horse battery staple"), ("password", "password1234"), ("email", "")],
)
async def test_a_right_guess_among_too_many_at_once_is_refused_like_the_others(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch, path: str, new: str
) -> None:
    ada = await service.register()
    verify = Place.verify

    async def verify_while_others_guess(place: Place, password_hash: str | None, password: str) -> bool:
        matches = await verify(place, password_hash, password)

        async def guesses(connection: AsyncConnection) -> None:
            for _ in range(PASSWORDS_REFUSED.most):
                context = AuditContext(str(ada.id))
                await audit.append(connection, context, "user.password_refused", ada.id, utc_now())

        await parts.database.transaction(guesses)
        return matches

    monkeypatch.setattr(Place, "verify", verify_while_others_guess)
    right = {"current_password": PASSWORD, "new_password": new}
    moved = {"email": "ada@elsewhere.example", "password": PASSWORD}
    body = moved if path == "email" else right
    assert code(await ada.client.post(f"/v1/users/me/{path}", json=body)) == (429, "too_many_changes")


async def test_other_changes_in_between_hide_no_wrong_password(service: Service, parts: Parts) -> None:
    ada = await service.register()
    context = AuditContext(str(ada.id))

    async def guesses_and_changes(connection: AsyncConnection) -> None:
        for action in ["user.password_refused", *["user.updated"] * 30] * PASSWORDS_REFUSED.most:
            await audit.append(connection, context, action, ada.id, utc_now())

    await parts.database.transaction(guesses_and_changes)
    guess = {"current_password": "wrong password", "new_password": "another horse battery staple"}
    assert code(await ada.client.post("/v1/users/me/password", json=guess)) == (429, "too_many_changes")


async def test_a_person_has_few_strangers_mailed(service: Service) -> None:
    ada = await service.register()
    for number in range(ADDRESSES_WANTED.most + 2):
        body = {"email": f"stranger{number}@elsewhere.example", "password": PASSWORD}
        response = await ada.client.post("/v1/users/me/email", json=body)
        wanted = (202, None) if number < ADDRESSES_WANTED.most else (429, "too_many_changes")
        assert (response.status_code, response.json().get("code")) == wanted


async def test_an_hour_later_it_is_allowed_again(service: Service, parts: Parts) -> None:
    ada = await service.register()
    for number in range(MOST):
        await rename(ada, f"Ada {number}")
    allowance, context = Allowance(MOST, frozenset({"user.updated"})), AuditContext(str(ada.id))
    async with parts.database.engine.connect() as connection:
        with pytest.raises(TooManyChanges):
            await allowance.require(connection, context, ada.id, utc_now() + timedelta(minutes=59))
        await allowance.require(connection, context, ada.id, utc_now() + timedelta(minutes=61))
