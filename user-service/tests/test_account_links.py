"""Mailed links: asked for, and followed."""

import asyncio
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from conftest import PASSWORD, Person, Service
from httpx import Response
from inbox import Post
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.config import Settings
from user_service.mail.models import LinkRow
from user_service.main import Parts
from user_service.users.models import utc_now

NEW_PASSWORD = "another horse, another battery"


async def follow(service: Service, kind: str, token: str, **more: str) -> tuple[int, str]:
    return code(await service.anonymous.post(f"/v1/users/links/{kind}", json={"token": token, **more}))


def code(response: Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "") if response.content else ""


async def state(service: Service, user_id: UUID) -> dict[str, object]:
    response = await service.auth_service().get(f"/internal/v1/users/{user_id}")
    found: dict[str, object] = response.json()
    return found


async def test_a_registered_address_is_confirmed_by_its_link_once(service: Service, post: Post) -> None:
    ada = await service.register("ada@example.com")
    token = await post.token("ada@example.com", "verify-address")
    for verb in ("HEAD", "GET", "GET"):
        page = await service.anonymous.request(verb, "/v1/users/links/verify-address")
        assert page.status_code == 200
    assert (await state(service, ada.id))["email_verified"] is False
    assert await follow(service, "verify-address", token) == (204, "")
    assert (await state(service, ada.id))["email_verified"] is True
    assert await follow(service, "verify-address", token) == (409, "link_used")
    assert await follow(service, "reset-password", token, password=NEW_PASSWORD) == (404, "link_unknown")


async def test_a_reset_sets_the_password_verifies_and_ends_every_session(
    service: Service, post: Post
) -> None:
    ada = await service.register("Ada@example.com")
    await post.token("Ada@example.com", "verify-address")
    before = await state(service, ada.id)
    asked = await service.anonymous.post("/v1/users/password-reset", json={"email": "ADA@example.com"})
    assert asked.status_code == 202
    token = await post.token("Ada@example.com", "reset-password")
    assert await follow(service, "reset-password", token, password="short") == (422, "password_refused")
    assert await follow(service, "reset-password", token, password=NEW_PASSWORD) == (204, "")
    assert await follow(service, "reset-password", token, password=NEW_PASSWORD) == (409, "link_used")
    after = await state(service, ada.id)
    assert after["credentials_version"] == after["sessions_cv"] == int(str(before["sessions_cv"])) + 1
    assert after["email_verified"] is True
    assert (await service.verify("ada@example.com", NEW_PASSWORD))["verified"] is True
    assert (await service.verify("ada@example.com", PASSWORD))["reason"] == "wrong_password"


async def test_of_two_who_follow_one_link_at_once_one_succeeds(service: Service, post: Post) -> None:
    await service.register("ada@example.com")
    token = await post.token("ada@example.com", "verify-address")
    answers = await asyncio.gather(*(follow(service, "verify-address", token) for _ in range(4)))
    assert sorted(answers) == [(204, "")] + [(409, "link_used")] * 3


async def move(service: Service, post: Post, person: Person, email: str) -> None:
    wanted = {"email": email, "password": PASSWORD}
    assert (await person.client.post("/v1/users/me/email", json=wanted)).status_code == 202
    assert (await service.verify(person.email))["verified"] is True
    token = await post.token(email, "change-address")
    assert await follow(service, "change-address", token) == (204, "")


async def changed(service: Service, post: Post) -> tuple[UUID, str]:
    """Ada, moved from old@ to new@, with the undo token that old@ got."""
    ada = await service.register("old@example.com")
    verified = await post.token("old@example.com", "verify-address")
    assert await follow(service, "verify-address", verified) == (204, "")
    await move(service, post, ada, "new@example.com")
    return ada.id, await post.token("old@example.com", "undo-change")


async def test_an_address_changes_once_the_new_one_is_confirmed(service: Service, post: Post) -> None:
    await changed(service, post)
    assert (await service.verify("new@example.com"))["verified"] is True
    assert (await service.verify("old@example.com"))["reason"] == "unknown"


async def test_an_address_that_was_never_confirmed_gets_no_way_back_into_the_account(
    service: Service, post: Post
) -> None:
    """Whoever reads the mail of an address that Ada mistyped, or never had, is not Ada."""
    ada = await service.register("mistyped@example.com")
    await post.token("mistyped@example.com", "verify-address")
    await move(service, post, ada, "ada@example.com")
    await post.nothing()
    await service.register("mistyped@example.com")  # it is free at once for whoever has it


async def test_the_old_address_takes_the_account_back_even_after_a_reset(
    service: Service, post: Post
) -> None:
    user_id, undo = await changed(service, post)
    await service.anonymous.post("/v1/users/password-reset", json={"email": "new@example.com"})
    reset = await post.token("new@example.com", "reset-password")
    assert await follow(service, "reset-password", reset, password=NEW_PASSWORD) == (204, "")
    before = await state(service, user_id)
    taken = {"email": "old@example.com", "name": "Eve", "password": PASSWORD}
    assert code(await service.anonymous.post("/v1/users", json=taken)) == (409, "email_taken")

    assert await follow(service, "undo-change", undo) == (204, "")
    assert int(str((await state(service, user_id))["sessions_cv"])) > int(str(before["sessions_cv"]))
    assert (await service.verify("new@example.com", NEW_PASSWORD))["reason"] == "unknown"
    assert (await service.verify("old@example.com", NEW_PASSWORD))["reason"] == "wrong_password"
    again = await post.token("old@example.com", "reset-password")
    assert await follow(service, "reset-password", again, password=PASSWORD) == (204, "")
    assert (await service.verify("old@example.com"))["verified"] is True


async def test_a_changed_password_drops_a_pending_change_and_a_pending_reset(
    service: Service, post: Post
) -> None:
    ada = await service.register("ada@example.com")
    await post.token("ada@example.com", "verify-address")
    wanted = {"email": "eve@example.com", "password": PASSWORD}
    await ada.client.post("/v1/users/me/email", json=wanted)
    change = await post.token("eve@example.com", "change-address")
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    reset = await post.token("ada@example.com", "reset-password")
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await ada.client.post("/v1/users/me/password", json=body)).status_code == 204
    assert await follow(service, "change-address", change) == (410, "link_expired")
    assert await follow(service, "reset-password", reset, password=PASSWORD) == (410, "link_expired")


async def test_a_change_needs_the_password_and_a_free_address(service: Service, post: Post) -> None:
    ada, eve = await service.register("ada@example.com"), await service.register("eve@example.com")
    await post.sender.send_due(utc_now())
    post.inbox.mails.clear()
    wrong = {"email": "new@example.com", "password": "wrong"}
    assert code(await ada.client.post("/v1/users/me/email", json=wrong)) == (403, "wrong_password")
    taken = {"email": "EVE@example.com", "password": PASSWORD}
    assert (await ada.client.post("/v1/users/me/email", json=taken)).status_code == 202
    await post.token("eve@example.com", "reset-password")  # "you already have an account", to its owner alone
    assert (await state(service, eve.id))["email_verified"] is False


async def test_an_expired_and_an_invented_link_say_so(service: Service, post: Post, parts: Parts) -> None:
    await service.register("ada@example.com")
    token = await post.token("ada@example.com", "verify-address")
    past = utc_now() - timedelta(seconds=1)
    await parts.database.transaction(
        lambda connection: connection.execute(
            text("UPDATE mailed_links SET expires_at = :past"), {"past": past.replace(tzinfo=None)}
        )
    )
    assert await follow(service, "verify-address", token) == (410, "link_expired")
    assert await follow(service, "verify-address", "invented") == (404, "link_unknown")


async def test_links_that_ended_with_the_sessions_keep_nobody_from_a_new_one(
    service: Service, post: Post
) -> None:
    """A thief would ask for five resets before moving the account: undoing that ends them, and mails another."""
    await service.register("ada@example.com")
    await post.token("ada@example.com", "verify-address")
    for _ in range(4):
        await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    await post.sender.send_due(utc_now())
    assert len(post.inbox.mails) == 4
    post.inbox.mails.clear()
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    reset = await post.token("ada@example.com", "reset-password")
    assert await follow(service, "reset-password", reset, password=NEW_PASSWORD) == (204, "")
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    again = await post.token("ada@example.com", "reset-password")
    assert await follow(service, "reset-password", again, password=PASSWORD) == (204, "")


async def test_the_page_of_a_link_runs_nothing_but_its_own_script(service: Service) -> None:
    page = await service.anonymous.get("/v1/users/links/reset-password")
    assert "default-src 'none'; script-src 'sha256-" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert 'type="password"' in page.text
    assert 'autocomplete="username" hidden' in page.text  # password managers ask for it
    assert "At least 12 characters." in page.text
    assert page.text.index("At least 12") < page.text.index(
        'type="password"'
    )  # before the mistake, not after it
    assert "You will be signed out on all your devices." in page.text
    assert '<p role="alert"></p>' in page.text
    assert '<a href="http://localhost:8080">' in page.text
    assert (await service.anonymous.get("/v1/users/links/evil")).status_code == 422


class TestConfirmedRegistration:
    """With REGISTRATION=confirm."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"registration": "confirm", "require_verified_email": True})

    async def test_an_account_is_made_when_its_link_is_followed(self, service: Service, post: Post) -> None:
        body = {"email": "ada@example.com", "name": "Ada"}
        answers = [await service.anonymous.post("/v1/users", json=body)]
        assert (await service.verify("ada@example.com"))["reason"] == "unknown"
        token = await post.token("ada@example.com", "confirm-registration")
        confirmed = [
            await follow(service, "confirm-registration", token, password=PASSWORD) for _ in range(2)
        ]
        assert confirmed == [(204, ""), (409, "link_used")]
        verified = await service.verify("ada@example.com")
        assert verified["verified"] is True
        assert verified["user"]["email_verified"] is True

        answers.append(await service.anonymous.post("/v1/users", json=body))
        assert {(response.status_code, response.content) for response in answers} == {
            (202, answers[0].content)
        }
        assert await post.token("ada@example.com", "reset-password")

    async def test_of_two_who_registered_one_address_the_first_to_confirm_has_it(
        self, service: Service, post: Post
    ) -> None:
        tokens = []
        for name in ("Ada", "Eve"):
            body = {"email": "ada@example.com", "name": name}
            await service.anonymous.post("/v1/users", json=body)
            tokens.append(await post.token("ada@example.com", "confirm-registration"))
        confirmed = [
            await follow(service, "confirm-registration", token, password=PASSWORD)
            for token in reversed(tokens)
        ]
        assert confirmed == [(204, ""), (409, "email_taken")]

    async def test_whoever_asks_for_the_account_of_somebody_else_does_not_choose_its_password(
        self, service: Service, post: Post
    ) -> None:
        body = {"email": "ada@example.com", "name": "Ada"}
        guessed = await service.anonymous.post("/v1/users", json={**body, "password": "chosen by a stranger"})
        assert guessed.status_code == 422
        assert (await service.anonymous.post("/v1/users", json=body)).status_code == 202
        page = await service.anonymous.get("/v1/users/links/confirm-registration")
        assert 'type="password"' in page.text
        token = await post.token("ada@example.com", "confirm-registration")
        assert (await follow(service, "confirm-registration", token))[0] == 422
        assert await follow(service, "confirm-registration", token, password="ada@example.com") == (
            422,
            "password_refused",
        )
        assert await follow(service, "confirm-registration", token, password=PASSWORD) == (204, "")


async def followed(service: Service, email: str, token: str | None = None) -> str | None:
    response = await service.auth_service().post(
        "/internal/v1/links/followed", json={"email": email, "token": token}
    )
    assert response.status_code == 200, response.text
    link: str | None = response.json()["link"]
    return link


async def test_the_device_that_followed_a_link_has_what_the_sign_in_knows_it_by(
    service: Service, post: Post
) -> None:
    await service.register("Ada@example.com")
    for kind, asks, more in (
        ("verify-address", None, {}),
        ("reset-password", "/v1/users/password-reset", {"password": NEW_PASSWORD}),
    ):
        if asks:
            await service.anonymous.post(asks, json={"email": "ada@example.com"})
        token = await post.token("Ada@example.com", kind)
        refused = await service.anonymous.post(f"/v1/users/links/{kind}", json={"token": "x" * 43, **more})
        assert "set-cookie" not in refused.headers
        assert await followed(service, "ada@example.com", token) is None
        response = await service.anonymous.post(f"/v1/users/links/{kind}", json={"token": token, **more})
        assert response.headers["x-device-token"] == f"link.{token}"
        cookie = response.headers["set-cookie"].lower()
        assert cookie.startswith(f"device=link.{token.lower()};")
        said = {part.strip() for part in cookie.split(";")[1:]}
        assert said == {"httponly", "max-age=3600", "path=/auth/token", "samesite=strict"}
        link = await followed(service, "ADA@example.com", token)
        assert link
        assert token not in link
        assert await followed(service, " ada@example.com") == link, "the last one that was followed"
        again = await service.anonymous.post(f"/v1/users/links/{kind}", json={"token": token, **more})
        assert (again.status_code, "set-cookie" in again.headers) == (409, False)


async def test_a_followed_link_counts_for_its_own_address_and_for_an_hour(
    service: Service, post: Post, parts: Parts
) -> None:
    await service.register("ada@example.com")
    token = await post.token("ada@example.com", "verify-address")
    await service.register("eve@example.com")
    await post.token("eve@example.com", "verify-address")
    assert await follow(service, "verify-address", token) == (204, "")
    for address in ("eve@example.com", "nobody@example.com", "no address", ""):
        assert await followed(service, address) is None
        assert await followed(service, address, token) is None
    assert await followed(service, "ada@example.com", "another") is None
    for minutes, counts in ((59, True), (61, False)):
        moved = update(LinkRow).values(used_at=utc_now() - timedelta(minutes=minutes))
        await parts.database.transaction(partial(AsyncConnection.execute, statement=moved))
        assert bool(await followed(service, "ada@example.com")) is counts
        assert bool(await followed(service, "ada@example.com", token)) is counts


async def test_only_the_sign_in_may_ask_who_followed_a_link(service: Service) -> None:
    body = {"email": "ada@example.com", "token": None}
    for client, status in ((service.client(port=9000), 401), (service.auth_service("users:read"), 403)):
        assert (await client.post("/internal/v1/links/followed", json=body)).status_code == status
    assert (await service.anonymous.post("/internal/v1/links/followed", json=body)).status_code == 404
