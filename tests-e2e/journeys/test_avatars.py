"""A picture of oneself: put, read, replaced, taken away."""

from __future__ import annotations

from gatehouse_e2e.api import Person
from gatehouse_e2e.people import People
from gatehouse_e2e.pictures import gif_and_script, png


def test_an_avatar_is_put_read_and_removed(people: People, person: Person) -> None:
    http = people.api(person).http
    bearer = person.tokens.bearer
    put = http.put("/v1/users/me/avatar", headers={**bearer, "Content-Type": "image/png"}, content=png(64))
    assert put.is_success, put.text
    got = http.get(f"/v1/users/{person.id}/avatar", headers=bearer)
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("image/")
    assert b"canary-metadata" not in got.content
    again = http.get(
        f"/v1/users/{person.id}/avatar", headers={**bearer, "If-None-Match": got.headers["etag"]}
    )
    assert again.status_code == 304
    part = http.get(f"/v1/users/{person.id}/avatar", headers={**bearer, "Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, got.content[:10])
    assert http.delete("/v1/users/me/avatar", headers=bearer).is_success
    assert http.get(f"/v1/users/{person.id}/avatar", headers=bearer).status_code == 404


def test_what_is_no_picture_is_refused(people: People, person: Person) -> None:
    headers = {**person.tokens.bearer, "Content-Type": "image/png"}
    refused = people.api(person).http.put(
        "/v1/users/me/avatar", headers=headers, content=b"<svg onload=alert(1)>"
    )
    assert 400 <= refused.status_code < 500
    assert refused.json()["code"]


def test_a_picture_that_is_a_script_too_comes_back_as_a_picture(people: People, person: Person) -> None:
    http, bearer = people.api(person).http, person.tokens.bearer
    put = http.put(
        "/v1/users/me/avatar", headers={**bearer, "Content-Type": "image/gif"}, content=gif_and_script()
    )
    assert put.is_success, put.text
    got = http.get(f"/v1/users/{person.id}/avatar", headers=bearer)
    assert got.headers["content-type"] == "image/webp"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert b"alert" not in got.content
