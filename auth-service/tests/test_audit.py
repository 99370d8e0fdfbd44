"""What is told of a security decision, and what never is."""

import logging
from typing import Any

import pytest
from canary import Canary
from conftest import Service
from people import People

from auth_service import audit


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "auth_service.audit"]


async def test_each_decision_is_one_event_with_who_where_and_why(
    service: Service, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auth_service.audit")
    grant = await service.sign_in()
    await service.token(grant_type="password", username="ada@example.com", password="wrong")
    await service.refresh("forged")
    await service.public.post("/auth/introspect", data={"token": "x"}, auth=("nobody", "secret"))
    await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await service.refresh(grant["refresh_token"])
    told = [(event["event"], event["outcome"], event["reason"]) for event in events(caplog)]
    assert told == [
        ("sign-in", "granted", ""),
        ("sign-in", "refused", "wrong_password"),
        ("refresh", "refused", "refresh_token_invalid"),
        ("client", "refused", "invalid_client"),
        ("sign-out", "ended", ""),
        ("refresh", "refused", "session_ended"),
    ]
    first = events(caplog)[0]
    assert first["actor"] == people["ada@example.com"]["id"]
    assert first["session"] == service.session_of(grant["access_token"])
    assert {event["address"] for event in events(caplog)} == {"127.0.0.0/24"}
    metrics = (await service.internal.get("/metrics")).text
    assert 'event="refresh",outcome="refused",reason="session_ended"' in metrics


def test_the_canary_hears_each_kind_of_secret(canary: Canary) -> None:
    logger = logging.getLogger("auth_service.test")
    mac = "A" * 43
    for secret in (People.PASSWORD, "eyJhbGciOi.eyJpc3Mi.c2ln", f"{'s' * 22}.0.0.{mac}", "ada@example.com"):
        logger.info("a line with %s", secret)
        assert canary.heard, secret
        canary.heard.clear()
    logger.info("a line without any, about %s", audit.Origin("192.0.2.7").prefix)
    assert not canary.heard


@pytest.mark.parametrize(
    "form", [{"refresh_token": "canary-token"}, {"username": "a@b.example", "password": "canary"}]
)
async def test_no_answer_echoes_what_was_sent(service: Service, form: dict[str, str]) -> None:
    for grant in ("password", "refresh_token", "canary-grant"):
        answer = await service.token(grant_type=grant, **form)
        assert answer.status_code == 400
        assert "canary" not in answer.text
    answer = await service.public.get(
        "/auth/verify", headers={"authorization": "Bearer canary.canary.canary"}
    )
    assert answer.status_code == 401
    assert "canary" not in answer.text
