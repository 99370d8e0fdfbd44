"""A picture of oneself: put, read, replaced, taken away."""

from __future__ import annotations

import struct
import zlib

from gatehouse_e2e.api import Person
from gatehouse_e2e.people import People


def png(side: int, colour: bytes = b"\x40\x80\xc0") -> bytes:
    """A plain square, made by hand so that the suite needs no picture library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + colour * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tEXt", b"Comment\0canary-metadata")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


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
