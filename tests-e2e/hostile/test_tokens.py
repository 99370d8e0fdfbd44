"""Tokens that nobody issued, or not for this: refused with a reason, and nothing else happens."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gatehouse_e2e.api import Api, Person, Refused
from gatehouse_e2e.people import People


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def decode(part: str) -> dict[str, Any]:
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def signed(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """By a key of our own, in the form of ES256."""
    text = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


KEY = ec.generate_private_key(ec.SECP256R1())


def our_jwk() -> dict[str, str]:
    numbers = KEY.public_key().public_numbers()
    x, y = (encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}


def forgeries(token: str, victim: str, jwks: dict[str, Any]) -> dict[str, str]:
    head, body, signature = token.split(".")
    header, claims = decode(head), decode(body)
    other = encode(json.dumps(claims | {"sub": victim}).encode())
    public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = KEY.public_key().public_bytes(*public)
    symmetric = f"{encode(json.dumps(header | {'alg': 'HS256'}).encode())}.{other}"
    keys = [json.dumps(jwks["keys"][0]).encode(), pem]
    shared = [encode(hmac.digest(key, symmetric.encode(), hashlib.sha256)) for key in keys]
    promoted = encode(json.dumps(claims | {"roles": ["admin"]}).encode())
    none = {name: encode(json.dumps(header | {"alg": name}).encode()) for name in ("none", "None", "nOnE")}
    far = claims | {"sub": victim, "exp": int(time.time()) + 10**9}
    zeros = encode(bytes(64))
    return {
        "another's subject under my signature": f"{head}.{other}.{signature}",
        "more roles under my signature": f"{head}.{promoted}.{signature}",
        "no algorithm, no signature": f"{none['none']}.{other}.",
        "no algorithm, capitals": f"{none['None']}.{other}.{signature}",
        "no algorithm, mixed": f"{none['nOnE']}.{other}.",
        "the public key as a shared secret": f"{symmetric}.{shared[0]}",
        "the key's text as a shared secret": f"{symmetric}.{shared[1]}",
        "a key of ours under their id": signed(header, far),
        "a key of ours in the header": signed(header | {"jwk": our_jwk()}, far),
        "a key of ours behind a link": signed(header | {"jku": "http://localhost:1/jwks.json"}, far),
        "a key id that is a path": signed(header | {"kid": "../../../../dev/null"}, far),
        "a key id that is a query": signed(header | {"kid": "x' OR '1'='1"}, far),
        "a key id nobody has": signed(header | {"kid": secrets.token_urlsafe(12)}, far),
        "a signature of zeros": f"{head}.{body}.{zeros}",
        "half a signature": f"{head}.{body}.{signature[:43]}",
        "no signature": f"{head}.{body}.",
        "a part too many": f"{token}.{signature}",
        "padding": f"{head}.{body}.{signature}==",
        "another type": signed(header | {"typ": "JWT"}, claims),
        "an extension that must be understood": signed(header | {"crit": ["exp"]}, claims),
    }


def test_no_forged_token_is_served_at_gateway_or_service(api: Api, people: People, person: Person) -> None:
    victim = people.signed_in()
    jwks = api.http.get("/.well-known/jwks.json").json()
    for name, token in forgeries(person.tokens.access_token, victim.id, jwks).items():
        for path in ("/v1/users/me", "/auth/verify", "/auth/sessions"):
            answer = people.api(person).http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, (name, path, answer.status_code, answer.text)
            assert answer.json()["code"], name
            assert victim.id not in answer.text, name
    assert people.api(person).me(person.tokens).json()["id"] == person.id


def test_a_token_is_good_for_what_it_was_made_for(people: People, person: Person) -> None:
    api = people.api(person)
    refresh = {"Authorization": f"Bearer {person.tokens.refresh_token}"}
    assert api.http.get("/v1/users/me", headers=refresh).status_code == 401
    with pytest.raises(Refused) as refusal:
        api.refresh(person.tokens.access_token)
    assert refusal.value.error == "invalid_grant"
    in_query = api.http.get("/v1/users/me", params={"access_token": person.tokens.access_token})
    assert in_query.status_code in (400, 401)


def test_two_tokens_in_one_request_are_no_token(people: People, person: Person) -> None:
    other = people.signed_in()
    headers = [("Authorization", f"Bearer {one.tokens.access_token}") for one in (person, other)]
    answer = people.api(person).http.get("/v1/users/me", headers=headers)
    assert answer.status_code in (400, 401), answer.text


def test_malformed_tokens_are_refused_by_the_hundred(people: People, person: Person, full: bool) -> None:
    """Cut, doubled, shuffled, with odd bytes: never a success, never a 5xx."""
    token = person.tokens.access_token
    for number in range(2000 if full else 200):
        at = 1 + number * 7 % (len(token) - 2)
        swapped = "A" if token[at] != "A" else "B"
        shapes = (
            token[:at],
            token[:at] + "." + token[at:],
            token[:at] + swapped + token[at + 1 :],
            token[at:],
        )
        stranger = people.address()
        headers = {"Authorization": f"Bearer {shapes[number % 4]}", "X-Forwarded-For": stranger}
        answer = people.api(person).http.get("/v1/users/me", headers=headers)
        assert answer.status_code == 401, (number, answer.text)


def test_a_used_refresh_token_replayed_late_ends_the_thief_and_the_owner_alike(
    people: People, person: Person
) -> None:
    api = people.api(person)
    first = person.tokens.refresh_token
    second = api.refresh(first)
    third = api.refresh(second.refresh_token)
    thief = people.api(people.stranger())
    with pytest.raises(Refused) as refusal:
        thief.refresh(first)
    assert refusal.value.error == "invalid_grant"
    for token in (third.refresh_token, second.refresh_token, first):
        with pytest.raises(Refused) as refusal:
            api.refresh(token)
        assert refusal.value.error == "invalid_grant"


def test_a_forged_refresh_token_changes_nothing_whatever_it_is_sent_to(
    people: People, person: Person
) -> None:
    """With the session's real id, the one part that a log or a list might show."""
    token = person.tokens.refresh_token
    sid, generation, attempt, mac = token.split(".")
    forged = [
        f"{sid}.{generation}.{attempt}.{encode(secrets.token_bytes(32))}",
        f"{sid}.{int(generation) + 1}.{attempt}.{mac}",
        f"{sid}.{generation}.{int(attempt) + 1}.{mac}",
        f"{sid}.{generation}.{attempt}.",
        f"{sid}.0{generation}.{attempt}.{mac}",
        f"{token}=", f"{token}.{mac}", token.upper(), sid,
    ]  # fmt: skip
    thief = people.api(people.stranger())
    for one in forged:
        with pytest.raises(Refused) as refusal:
            thief.refresh(one)
        assert refusal.value.error == "invalid_grant", one
        thief.sign_out(one)  # 200 whatever it was (RFC 7009), and nothing ends
    api = people.api(person)
    assert api.me(person.tokens).json()["id"] == person.id
    assert api.me(api.refresh(token)).json()["id"] == person.id


def test_no_other_door_gives_a_token(people: People, person: Person) -> None:
    """What is no form, is said twice, or comes from a client that may not."""
    http = people.api(person).http
    sign_in = {"grant_type": "password", "username": person.email, "password": person.password}
    renew = {"grant_type": "refresh_token", "refresh_token": person.tokens.refresh_token}
    twice = [*sign_in.items(), ("username", people.registered().email)]
    attempts = {
        "JSON": http.post("/auth/token", json=sign_in),
        "a multipart form": http.post(
            "/auth/token", files={key: (None, value) for key, value in sign_in.items()}
        ),
        "the query": http.post("/auth/token", params=sign_in),
        "a parameter twice": http.post(
            "/auth/token",
            content=urlencode(twice),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        ),
        "the first-party client's own": http.post("/auth/token", data={"grant_type": "client_credentials"}),
        "a service, no secret": http.post(
            "/auth/token", data={"grant_type": "client_credentials", "client_id": "user-service"}
        ),
        "another client's renewal": http.post("/auth/token", data=renew | {"client_id": "user-service"}),
    }
    for name, answer in attempts.items():
        assert answer.status_code in (400, 401), (name, answer.text)
        assert "access_token" not in answer.text, name
        assert answer.headers["cache-control"] == "no-store", name
    introspected = http.post("/auth/introspect", data={"token": person.tokens.access_token})
    assert (introspected.status_code, introspected.json()["error"]) == (401, "invalid_client")
    assert people.api(person).refresh(person.tokens.refresh_token).access_token
