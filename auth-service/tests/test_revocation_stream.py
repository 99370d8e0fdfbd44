"""contract/revocations.md against what is really written: whoever follows the stream relies on that page."""

import re
import time
from typing import Any

import jwt
from conftest import Service
from people import People

from auth_service.config import Settings
from auth_service.contract import PATH

PAGE = (PATH.parent / "revocations.md").read_text("utf-8")


def kinds_on_the_page() -> dict[str, list[str]]:
    """Each kind's own fields."""
    rows = re.findall(r"^\| `([a-z]+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    return {kind: re.findall(r"`(\w+)`", fields) for kind, fields in rows}


async def entries(redis: Any) -> list[dict[str, str]]:
    return [fields for _, fields in await redis.xrange("auth:revocations")]


async def test_every_kind_of_entry_is_written_as_the_page_says(
    service: Service, settings: Settings, people: People, redis: Any
) -> None:
    written = await entries(redis)
    assert [entry["kind"] for entry in written] == ["start"]
    assert re.fullmatch(r"[0-9a-f]{32}", await redis.get("auth:epoch"))

    began = time.time()
    signed_out, changed = await service.sign_in(), await service.sign_in()
    kid = jwt.get_unverified_header(changed["access_token"])["kid"]
    await service.public.post("/auth/revoke", data={"token": signed_out["refresh_token"]})
    await redis.xadd("users", people.change("ada@example.com"))
    await service.until_refused(changed["access_token"], "credentials_changed")
    await service.parts.keys.revoke(kid)
    [session, subject, key] = await entries(redis)
    written += [session, subject, key]

    assert {entry["kind"]: list(entry)[2:] for entry in written} == kinds_on_the_page()
    assert {tuple(entry)[:2] for entry in written} == {("kind", "until")}
    assert session["sid"] == service.session_of(signed_out["access_token"])
    assert (subject["sub"], subject["cv"]) == (people["ada@example.com"]["id"], "2")
    assert key["kid"] == kid
    life = settings.access_token_seconds + settings.token_leeway_seconds + settings.request_deadline_seconds
    # A verifier that was cut off may come back with a JWKS that it fetched just before the key was revoked.
    cached = settings.jwks_lifetime_seconds
    for entry, kept in ((session, life), (subject, life), (key, life + cached)):
        assert began + kept <= int(entry["until"]) <= time.time() + kept + 1
