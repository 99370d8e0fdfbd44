"""Every response that says that a session has ended names it for the gateway, with the facts of the stream's entry."""

from typing import Any

import httpx
from conftest import Service, make_settings, started
from people import People

from service_kit.response_revocations import HEADER, MOST_ENTRIES, read
from service_kit.revocations import Revocation


def named(response: httpx.Response) -> list[Revocation]:
    value = response.headers.get(HEADER)
    return read([value.encode()]) if value else []


async def written(redis: Any) -> list[Revocation]:
    """The stream's sessions, as they were ended."""
    entries = [fields for _, fields in await redis.xrange("auth:revocations")]
    return [
        Revocation("session", entry["sid"], int(entry["until"]))
        for entry in entries
        if entry["kind"] == "session"
    ]


async def revoke(service: Service, token: str, **form: str) -> httpx.Response:
    response = await service.public.post("/auth/revoke", data={"token": token, **form})
    assert response.status_code == 200
    return response


async def end(service: Service, grant: dict[str, Any], path: str = "", **query: str) -> httpx.Response:
    async with service.client(grant["access_token"]) as client:
        return await client.delete(f"/auth/sessions{path}", params=query)


async def test_a_sign_out_names_the_session_whichever_token_it_was_asked_with(
    service: Service, redis: Any
) -> None:
    for token in ("access_token", "refresh_token"):
        grant = await service.sign_in()
        [revocation] = named(await revoke(service, grant[token]))
        assert revocation.value == service.session_of(grant["access_token"])
        assert (await written(redis))[-1] == revocation


async def test_a_repeated_sign_out_names_it_again_and_writes_nothing(service: Service, redis: Any) -> None:
    """It may come through another gateway, which was told nothing yet."""
    grant = await service.sign_in()
    await revoke(service, grant["refresh_token"])
    before = await written(redis)
    await service.until_refused(grant["access_token"], "session_revoked")
    for token in ("refresh_token", "access_token"):
        [revocation] = named(await revoke(service, grant[token]))
        assert revocation.value == service.session_of(grant["access_token"])
        assert revocation.until >= before[0].until
    assert await written(redis) == before


async def test_an_end_that_is_not_durable_is_503_and_names_nothing(service: Service) -> None:
    grant, mine = await service.sign_in(), await service.sign_in()
    service.parts.store._replicas = 1  # of which there is none to have it on disk
    for _ in range(2):  # nor is it when there is nothing left to end
        response = await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
        assert response.status_code == 503
        assert not named(response)
    everything = await end(service, mine)
    assert everything.status_code == 503
    assert not named(everything)


async def test_what_is_no_token_of_a_session_names_nothing(service: Service) -> None:
    grant = await service.sign_in()
    sid = service.session_of(grant["access_token"])
    for token in ("nonsense", f"{sid}.0.0.{'A' * 43}", "a.b.c", grant["refresh_token"] + "A"):
        assert not named(await revoke(service, token)), token
    assert not named(await service.refresh(f"{sid}.0.0.{'A' * 43}"))
    assert not named(await service.refresh(grant["refresh_token"]))


async def test_a_refresh_that_ends_the_session_or_finds_it_ended_names_it(
    service: Service, redis: Any
) -> None:
    first = await service.sign_in()
    second = (await service.refresh(first["refresh_token"])).json()
    await service.refresh(second["refresh_token"])
    reused = await service.refresh(first["refresh_token"])
    assert reused.json()["code"] == "refresh_token_reused"
    assert named(reused) == await written(redis)
    again = await service.refresh(first["refresh_token"])
    assert again.json()["code"] == "session_ended"
    assert [one.value for one in named(again)] == [service.session_of(first["access_token"])]


async def test_a_refresh_after_a_change_of_the_person_names_the_session(
    service: Service, people: People, redis: Any
) -> None:
    changed = await service.sign_in()
    people.change("ada@example.com")
    refused = await service.refresh(changed["refresh_token"])
    assert refused.json()["code"] == "credentials_changed"
    assert named(refused) == await written(redis)
    assert named(refused)[0].value == service.session_of(changed["access_token"])


async def test_ending_sessions_names_each_of_them_the_asking_one_first(service: Service, redis: Any) -> None:
    mine, *others = [await service.sign_in() for _ in range(4)]
    sid = service.session_of(mine["access_token"])
    one = named(await end(service, mine, f"/{service.session_of(others[0]['access_token'])}"))
    assert one == await written(redis)
    rest = named(await end(service, mine, keep="current"))
    assert {each.value for each in rest} == {service.session_of(each["access_token"]) for each in others[1:]}
    await service.sign_in()
    everything = named(await end(service, mine))
    assert everything[0].value == sid
    assert set(await written(redis)) == {*one, *rest, *everything}


async def test_somebody_elses_session_is_not_named(service: Service, people: People) -> None:
    people.add("eve@example.com")
    ada, eve = await service.sign_in(), await service.sign_in("eve@example.com")
    refused = await end(service, eve, f"/{service.session_of(ada['access_token'])}")
    assert refused.status_code == 404
    assert not named(refused)


async def test_beyond_the_bound_the_newest_are_named_and_all_are_in_the_stream(
    redis_url: str, redis: Any, people: People, tmp_path: Any
) -> None:
    many = MOST_ENTRIES + 3
    changes = {"sessions_per_person": many, "sign_in_account_per_minute": 6000}
    settings = make_settings(redis_url, people.url, tmp_path, **changes, sign_in_address_per_minute=6000)
    async with started(settings) as service:
        grants = [await service.sign_in() for _ in range(many)]
        response = await end(service, grants[0])
        sids = [service.session_of(grant["access_token"]) for grant in grants]
        assert [each.value for each in named(response)] == [sids[0], *reversed(sids[-MOST_ENTRIES + 1 :])]
        assert {each.value for each in await written(redis)} == set(sids)
