"""Mails: asked for, and sent by a real client to a server of real shape."""

from datetime import timedelta

import pytest
from conftest import PASSWORD, Service
from inbox import Post
from sqlalchemy import text

from user_service.config import Settings
from user_service.main import Parts, make_parts
from user_service.users.models import utc_now


async def test_the_answer_for_a_stranger_is_the_same_and_nobody_is_mailed(
    service: Service, post: Post
) -> None:
    await service.register("ada@example.com")
    await post.token("ada@example.com", "verify-address")
    for path in ("password-reset", "verification"):
        known = await service.anonymous.post(f"/v1/users/{path}", json={"email": "ada@example.com"})
        await post.token(
            "ada@example.com", "reset-password" if path == "password-reset" else "verify-address"
        )
        unknown = await service.anonymous.post(f"/v1/users/{path}", json={"email": "eve@example.com"})
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        await post.nothing()


async def test_every_form_of_an_address_resets_the_one_account_and_mails_it_as_stored(
    service: Service, post: Post
) -> None:
    await service.register("Ada@example.com")
    await post.token("Ada@example.com", "verify-address")
    eve = await service.register("eve@example.com")
    await post.token("eve@example.com", "verify-address")
    for typed in ("ada@EXAMPLE.com", " ADA@example.com "):
        assert (
            await service.anonymous.post("/v1/users/password-reset", json={"email": typed})
        ).status_code == 202
        assert await post.token("Ada@example.com", "reset-password")
        taken = await eve.client.post("/v1/users/me/email", json={"email": typed, "password": PASSWORD})
        assert taken.status_code == 202
        await post.token("Ada@example.com", "reset-password")  # to the owner alone, as above
    for other in ("\uff41da@example.com", "a\u200bda@example.com", "ad\u00e1@example.com"):
        asked = await service.anonymous.post("/v1/users/password-reset", json={"email": other})
        assert asked.status_code in (202, 422)
        await post.nothing()


async def test_a_mail_waits_for_its_server_and_is_given_up_when_it_is_refused(
    service: Service, post: Post
) -> None:
    await service.register("ada@example.com")
    post.inbox.response = "451 later"
    now = utc_now()
    await post.sender.send_due(now)
    post.inbox.response = "250 OK"
    await post.sender.send_due(now + timedelta(seconds=30))
    assert post.inbox.mails == []
    await post.sender.send_due(now + timedelta(seconds=61))
    assert len(post.inbox.mails) == 1
    post.inbox.mails.clear()
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    post.inbox.response = "554 never"
    await post.sender.send_due(utc_now())
    post.inbox.response = "250 OK"
    await post.sender.send_due(utc_now() + timedelta(days=1))
    assert post.inbox.mails == []


async def test_one_address_gets_five_resets_at_once(service: Service, post: Post) -> None:
    await service.register("ada@example.com")
    for _ in range(8):
        await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    await post.sender.send_due(utc_now())
    subjects = [mail["Subject"] for _, mail in post.inbox.mails]
    assert subjects.count("Choose a new password") == 5


async def test_strangers_who_ask_for_resets_keep_nobody_from_one(service: Service, post: Post) -> None:
    await service.register("ada@example.com")
    await post.token("ada@example.com", "verify-address")
    now = utc_now()
    for _ in range(6):
        await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    await post.sender.send_due(now + timedelta(seconds=5))
    assert len(post.inbox.mails) == 5
    post.inbox.mails.clear()
    # Theirs have expired, and the hour has not passed.
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    await post.sender.send_due(now + timedelta(minutes=31))
    assert len(post.inbox.mails) == 1


async def test_no_token_is_stored_or_logged(
    service: Service, post: Post, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    caplog.set_level("ERROR", "mail.log")  # the test's own SMTP server repeats every line
    await service.register("ada@example.com")
    await service.anonymous.post("/v1/users/password-reset", json={"email": "ada@example.com"})
    await post.sender.send_due(utc_now())
    tokens = [str(mail).partition("#token=")[2].split()[0] for _, mail in post.inbox.mails]
    assert len(tokens) == 2
    stored = await parts.database.read(
        lambda connection: connection.execute(text("SELECT * FROM mailed_links"))
    )
    # The inbox of this test logs what it receives; that is not us.
    lines = [record.getMessage() for record in caplog.records if record.name != "mail.log"]
    kept = repr(stored.all()) + "".join(lines)
    assert not [token for token in tokens if token in kept]
    assert "ada@example.com" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("user_service")
    )


async def test_an_address_with_another_alphabet_is_mailed(service: Service, post: Post) -> None:
    await service.register("josé@bücher.example")
    await post.token("josé@xn--bcher-kva.example", "verify-address")


@pytest.mark.parametrize(
    ("app_url", "page"),
    [
        ("https://app.example/links/", "https://app.example/links"),
        (None, "http://localhost:8080/v1/users/links"),
    ],
)
async def test_links_lead_to_the_application_s_page_or_to_our_own(
    service: Service, post: Post, settings: Settings, app_url: str | None, page: str
) -> None:
    await service.register("ada@example.com")
    parts = make_parts(settings.model_copy(update={"smtp_port": post.port, "app_url": app_url}))
    assert parts.mail_sender is not None
    await parts.mail_sender.send_due(utc_now())
    await parts.close()
    _, mail = post.inbox.take()
    for part in ("plain", "html"):
        body = mail.get_body((part,))
        assert body is not None
        assert f"{page}/verify-address#token=" in body.get_content()
        assert ("email=ada%40example.com" in body.get_content()) is (app_url is None)
