"""Secrets that a person types and gets: found in no log of any part, whatever way they were sent."""

from __future__ import annotations

import secrets

import pytest

from gatehouse_e2e.people import People
from gatehouse_e2e.systems import NotHere, System


def test_no_log_ever_holds_a_password_a_token_or_an_address(system: System, people: People) -> None:
    somebody = people.stranger()
    canary, password = f"canary{secrets.token_hex(8)}", f"quail-{secrets.token_hex(12)}"
    somebody.email, somebody.password = f"{canary}@people.example", password
    api = people.api(somebody)
    people.register(somebody)
    tokens = api.sign_in(somebody.email, somebody.password)
    renewed = api.refresh(tokens.refresh_token)
    send_every_wrong_way(people, canary, password, renewed.access_token, renewed.refresh_token)
    api.sign_out(renewed.refresh_token)
    try:
        logs = system.logs()
    except NotHere as reason:
        pytest.skip(str(reason))
    seen_at_all = renewed.access_token.split(".")[1]
    secret = [
        canary,
        password,
        tokens.refresh_token,
        renewed.refresh_token,
        renewed.access_token,
        seen_at_all,
    ]
    for part, text in logs.items():
        for one in secret:
            at = text.find(one)
            assert at < 0, f"{part} logged it: {text[max(0, at - 300) : at + 60]!r}"
    assert any("/auth/token" in text for text in logs.values()), "no log tells of the requests at all"


def send_every_wrong_way(people: People, canary: str, password: str, access: str, refresh: str) -> None:
    """Misspelt, in the wrong place, of the wrong type, too long, without what belongs beside it."""
    api = people.api(people.stranger())
    email = f"{canary}@people.example"
    api.http.post("/v1/users", json={"password": password, "name": email})
    api.http.post("/v1/users", json={"email": email, "name": ["x"], "password": [password]})
    api.http.post("/v1/users", json={"email": email, "name": "x", "password": password})
    api.http.post("/v1/users", content=f'{{"password": "{password}", '.encode())
    api.http.post("/v1/users", json={"email": email, "name": "x", "password": password * 100})
    for form in (
        {"grant_type": "password", "username": email, "password": password + "x"},
        {"grant_type": "password", "username": [email, email], "password": password},
        {"grant_type": password, "username": email},
        {"grant_type": "refresh_token", "refresh_token": refresh[:-1]},
        {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": canary},
        {"grant_type": "refresh_token", "token": refresh},
    ):
        api.http.post("/auth/token", data=form)
        api.http.post("/auth/token", json=form)
    api.http.post("/auth/token", auth=(canary, password), data={"grant_type": "client_credentials"})
    for place in ("/v1/users/me", "/v1/users", "/auth/verify", "/nowhere"):
        api.http.get(place, params={"access_token": access, "password": password, "email": email})
        api.http.get(place, headers={"Authorization": f"Bearer {access}x"})
        api.http.get(
            place, headers={"Authorization": password, "Cookie": f"session={access}", "Referer": email}
        )
    api.http.get("/v1/users", headers={"Authorization": f"Bearer {access}"}, params={"email": email})
    api.http.post("/v1/users/password-reset", json={"email": email})
    api.http.post(
        "/v1/users/me/password", headers={"Authorization": f"Bearer {access}"}, json={"x": password}
    )
