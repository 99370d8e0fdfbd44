"""Secrets that a person types and gets: found in no log of any part, whatever way they were sent."""

from __future__ import annotations

import secrets
from functools import partial

import httpx
import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.mails import Mails
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
    claims = renewed.access_token.split(".")[1]
    in_no_log(
        system,
        *(canary, password, tokens.refresh_token, renewed.refresh_token, renewed.access_token, claims),
    )


def test_no_log_ever_holds_what_was_mailed(system: System, mails: Mails, people: People) -> None:
    person = people.signed_in()
    http, new = people.api(person).http, people.stranger().email
    found = {}
    http.post("/v1/users/verification", json={"email": person.email})
    found["verify-address"] = mails.wait(person.email).token
    change = {"email": new, "password": person.password}
    http.post("/v1/users/me/email", headers=person.tokens.bearer, json=change)
    found["change-address"] = mails.wait(new).token
    forgetful = people.registered()  # somebody else: what is mailed to an address ends with a change of it
    http.post("/v1/users/password-reset", json={"email": forgetful.email})
    found["reset-password"] = mails.wait(forgetful.email, "password").token
    for kind, token in found.items():
        path, good = f"/v1/users/links/{kind}", {"token": token, "password": people.stranger().password}
        if kind != "reset-password":
            del good["password"]
        http.get(path, params={"token": token}, headers={"Referer": f"{people.url}{path}?token={token}"})
        http.get(path, headers={"Authorization": f"Bearer {token}"})
        http.post(path, json={"token": [token], "x": token})
        http.post(path, content=token.encode(), headers={"Cookie": f"token={token}"})
        http.post(path, json=good | {"token": token + "x"})
        assert [http.post(path, json=good).status_code for _ in range(2)] == [204, 409], kind
    in_no_log(system, *found.values())


def test_no_log_ever_holds_what_makes_a_device_known_or_a_request_the_same(
    system: System, people: People
) -> None:
    person, key = people.stranger(), f"canary-{secrets.token_hex(12)}"
    http = people.api(person).http
    body = {"email": person.email, "name": person.name, "password": person.password}
    for name in (person.name, person.name, "Somebody else"):
        http.post("/v1/users", json=body | {"name": name}, headers={"Idempotency-Key": key})
    http.post("/v1/users", json={}, headers={"Idempotency-Key": key * 20})
    http.post("/v1/users", json=body, headers={b"Idempotency-Key": f"{key} é".encode()})
    http.post("/v1/users", json=body, headers=[("Idempotency-Key", key), ("Idempotency-Key", key)])
    form = {"grant_type": "password", "username": person.email, "password": person.password}
    device = http.post("/auth/token", data=form).headers["x-device-token"]
    for value in (device, device[:-1], device * 30):
        http.post("/auth/token", data=form, headers={"X-Device-Token": value})
        http.post("/auth/token", data=form | {"password": "wrong" * 4}, headers={"X-Device-Token": value})
        http.get("/v1/users/me", headers={"Cookie": f"device={value}; device={value}"})
    http.post("/auth/token", data=form | {"device": device}, params={"device": device})
    in_no_log(system, key, device, device.partition(".")[2])


def test_no_log_ever_holds_a_clients_secret(parts: Compose, people: People) -> None:
    client = f"canary-{secrets.token_hex(4)}"
    clients = partial(parts.execute, "auth-service", "python", "-m", "auth_service", "clients")
    first = clients("add", client).split()[-1]
    second = clients("add-secret", client).split()[-1]
    http = people.api(people.stranger()).http
    try:
        for secret in (first, second):
            form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
            assert http.post("/auth/token", data=form).is_success
            assert http.post(
                "/auth/token", data={"grant_type": form["grant_type"]}, auth=(client, secret)
            ).is_success
            http.post("/auth/token", data=form | {"client_secret": secret + "x"})
            http.post("/auth/token", json=form)
            http.post("/auth/token", params=form)
            http.post("/auth/token", data=form | {"grant_type": secret, "scope": secret})
            http.post("/auth/introspect", data={"token": secret}, auth=(client, secret))
            http.post("/auth/introspect", data={"token": "x"}, auth=(secret, client))
        clients("drop-secret", client)
    finally:
        clients("remove", client)
    in_no_log(parts, first, second)


def in_no_log(system: System, *secret: str) -> None:
    """Of no part; and the logs do tell of what was asked."""
    try:
        logs = system.logs()
    except NotHere as reason:
        pytest.skip(str(reason))
    for part, text in logs.items():
        for one in secret:
            at = text.find(one)
            assert at < 0, f"{part} logged it: {text[max(0, at - 300) : at + 60]!r}"
    assert any("/auth/token" in text for text in logs.values()), "no log tells of the requests at all"


def send_every_wrong_way(people: People, canary: str, password: str, access: str, refresh: str) -> None:
    """Misspelt, in the wrong place, of the wrong type, too long, without what belongs beside it; no answer repeats it."""
    api = people.api(people.stranger())

    def repeats_nothing(answer: httpx.Response) -> None:
        answer.read()
        for one in (password, access, refresh):
            assert one not in answer.text, (answer.request.url.path, answer.text)

    api.http.event_hooks["response"].append(repeats_nothing)
    nameless = api.http.post("/v1/users", json={"password": password, "name": "x"})
    assert nameless.status_code == 422
    assert "email" in nameless.text
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
