"""A person's sessions: what is told of each, who may end which, and how many there are."""

from typing import Any

from conftest import Service, make_settings, started
from people import People
from stored import age_session


async def sessions_of(service: Service, grant: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    async with service.client(grant["access_token"]) as client:
        response = await client.get("/auth/sessions", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def end(service: Service, grant: dict[str, Any], path: str = "", **query: str) -> int:
    async with service.client(grant["access_token"]) as client:
        return (await client.delete(f"/auth/sessions{path}", params=query)).status_code


async def test_each_session_tells_where_and_when_it_began_and_when_it_was_last_used(
    service: Service, redis: Any
) -> None:
    service.public.headers.update({"user-agent": "A laptop/1.0", "x-forwarded-for": "198.51.100.9"})
    earlier = await service.sign_in()
    service.public.headers.update({"user-agent": "A phone/2.0", "x-forwarded-for": "2001:db8:1:2::3"})
    await age_session(redis, service.session_of(earlier["access_token"]), 3600)
    now = await service.sign_in()
    [phone, laptop] = await sessions_of(service, now)
    assert (phone["device"], phone["address"], phone["current"]) == ("A phone/2.0", "2001:db8:1::/48", True)
    assert (laptop["device"], laptop["address"], laptop["current"]) == (
        "A laptop/1.0",
        "198.51.100.0/24",
        False,
    )
    assert laptop["created_at"] == laptop["last_used_at"] < phone["created_at"]
    await service.refresh(earlier["refresh_token"])
    [_, used] = await sessions_of(service, now)
    assert used["last_used_at"] >= phone["created_at"]
    assert {**used, "last_used_at": ""} == {**laptop, "last_used_at": ""}


async def test_an_admin_sees_and_ends_another_persons_sessions_and_no_others(
    service: Service, people: People
) -> None:
    people.add("root@example.com", "admin")
    people.add("eve@example.com")
    ada, root = people["ada@example.com"]["id"], await service.sign_in("root@example.com")
    theirs = [await service.sign_in() for _ in range(3)]
    eves = await service.sign_in("eve@example.com")
    first = service.session_of(theirs[0]["access_token"])

    assert await end(service, eves, f"/{first}", user=ada) == 403
    assert await end(service, eves, user=ada) == 403
    listed = await sessions_of(service, root, user=ada)
    assert {each["id"] for each in listed} == {service.session_of(each["access_token"]) for each in theirs}
    assert not any(each["current"] for each in listed)

    assert await end(service, root, f"/{first}") == 404, "it is not the admin's own"
    assert await end(service, root, user="") == 422, "a form without an id means nobody"
    assert await end(service, root, f"/{first}", user=ada) == 204
    assert (await service.refresh(theirs[0]["refresh_token"])).json()["code"] == "session_ended"
    assert (await service.refresh(theirs[1]["refresh_token"])).status_code == 200
    assert await end(service, root, user=ada) == 204
    for each in theirs:
        await service.until_refused(each["access_token"], "session_revoked")
        assert (await service.refresh(each["refresh_token"])).json()["code"] == "session_ended"
    for other in (root, eves):
        assert (await service.refresh(other["refresh_token"])).status_code == 200


async def test_a_person_has_so_many_sessions_and_the_oldest_makes_room(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    people.add("eve@example.com")
    async with started(make_settings(redis_url, people.url, tmp_path, sessions_per_person=3)) as service:
        eves = await service.sign_in("eve@example.com")
        oldest, *kept = [await service.sign_in() for _ in range(4)]
        assert len(await sessions_of(service, kept[-1])) == 3
        await service.until_refused(oldest["access_token"], "session_revoked")
        assert (await service.refresh(oldest["refresh_token"])).json()["code"] == "session_ended"
        for each in (*kept, eves):
            assert (await service.refresh(each["refresh_token"])).status_code == 200


def test_fifty_are_the_most_if_nobody_says_otherwise(tmp_path: Any) -> None:
    assert make_settings("redis://x", "http://x", tmp_path).sessions_per_person == 50
