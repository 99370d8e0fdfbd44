"""The refresh contract against a real Redis, over HTTP."""

import asyncio
from typing import Any

from conftest import Service
from people import People
from stored import rewrite_session


def session_of(token: str) -> str:
    return token.split(".")[0]


async def backdate(redis: Any, token: str, seconds: int) -> None:
    """Move the time at which the present successor was made."""
    await redis.hincrby(f"auth:session:{session_of(token)}", "made", -1000 * seconds)


async def test_presenting_the_parent_again_within_the_grace_returns_the_same_successor(
    service: Service,
) -> None:
    first = (await service.sign_in())["refresh_token"]
    second = (await service.refresh(first)).json()["refresh_token"]
    assert (await service.refresh(first)).json()["refresh_token"] == second


async def test_a_replay_never_moves_the_clock_of_the_successor(service: Service, redis: Any) -> None:
    first = (await service.sign_in())["refresh_token"]
    await service.refresh(first)
    made = await redis.hget(f"auth:session:{session_of(first)}", "made")
    await service.refresh(first)
    assert await redis.hget(f"auth:session:{session_of(first)}", "made") == made


async def test_a_late_retry_of_a_lost_answer_keeps_the_session_alive(service: Service, redis: Any) -> None:
    first = (await service.sign_in())["refresh_token"]
    await service.refresh(first)  # the answer is lost
    await backdate(redis, first, 3600)
    both = await asyncio.gather(service.refresh(first), service.refresh(first))
    assert [response.status_code for response in both] == [200, 200]
    assert len({response.json()["refresh_token"] for response in both}) == 1
    assert (await service.refresh(both[0].json()["refresh_token"])).status_code == 200


async def test_a_superseded_attempt_is_reuse_and_ends_the_session(service: Service, redis: Any) -> None:
    first = (await service.sign_in())["refresh_token"]
    lost = (await service.refresh(first)).json()["refresh_token"]
    await backdate(redis, first, 60)
    kept = (await service.refresh(first)).json()
    assert (await service.refresh(lost)).json()["code"] == "refresh_token_reused"
    assert (await service.refresh(kept["refresh_token"])).json()["code"] == "session_ended"
    await service.until_refused(kept["access_token"], "session_revoked")


async def test_an_older_generation_is_reuse(service: Service) -> None:
    first = (await service.sign_in())["refresh_token"]
    second = (await service.refresh(first)).json()["refresh_token"]
    third = (await service.refresh(second)).json()["refresh_token"]
    assert (await service.refresh(first)).json()["code"] == "refresh_token_reused"
    assert (await service.refresh(third)).json()["code"] == "session_ended"


async def test_a_forged_mac_with_a_real_sid_changes_nothing(service: Service, redis: Any) -> None:
    token = (await service.sign_in())["refresh_token"]
    before = await redis.hgetall(f"auth:session:{session_of(token)}")
    response = await service.refresh(f"{session_of(token)}.7.0.{'A' * 43}")
    assert (response.status_code, response.json()["code"]) == (400, "refresh_token_invalid")
    assert await redis.hgetall(f"auth:session:{session_of(token)}") == before


async def test_a_pair_ahead_of_the_store_changes_nothing(service: Service, redis: Any) -> None:
    first = (await service.sign_in())["refresh_token"]
    key = f"auth:session:{session_of(first)}"
    older_copy = await redis.hgetall(key)
    ahead = (await service.refresh(first)).json()["refresh_token"]
    await redis.hset(key, mapping=older_copy)
    assert (await service.refresh(ahead)).json()["code"] == "refresh_token_invalid"
    assert (await service.refresh(first)).status_code == 200


async def test_fifty_refreshes_at_once_make_one_successor(service: Service) -> None:
    first = (await service.sign_in())["refresh_token"]
    responses = await asyncio.gather(*(service.refresh(first) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["refresh_token"] for response in responses}) == 1


async def test_user_service_being_away_is_503_and_ends_nothing(service: Service, people: People) -> None:
    token = (await service.sign_in())["refresh_token"]
    people.status = 500
    response = await service.refresh(token)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"] == "temporarily_unavailable"
    people.status = None
    assert (await service.refresh(token)).status_code == 200


async def test_a_disabled_person_cannot_refresh_though_no_event_came(
    service: Service, people: People
) -> None:
    grant = await service.sign_in()
    people.change("ada@example.com", status="disabled")
    assert (await service.refresh(grant["refresh_token"])).json()["code"] == "account_inactive"
    await service.until_refused(grant["access_token"], "session_revoked")


async def test_a_disabled_person_gets_no_token_while_user_service_is_away_either(
    service: Service, people: People
) -> None:
    token = (await service.sign_in())["refresh_token"]
    people.change("ada@example.com", status="disabled")
    people.status = 500
    assert (await service.refresh(token)).status_code == 503
    people.status = None
    assert (await service.refresh(token)).json()["code"] == "account_inactive"


async def test_a_password_change_ends_every_session_by_its_event(
    service: Service, people: People, redis: Any
) -> None:
    grant = await service.sign_in()
    await redis.xadd("users", people.change("ada@example.com"))
    await service.until_refused(grant["access_token"], "credentials_changed")
    assert (await service.refresh(grant["refresh_token"])).json()["code"] == "session_ended"


async def test_a_demotion_only_asks_for_a_refresh(service: Service, people: People, redis: Any) -> None:
    grant = await service.sign_in()
    await redis.xadd("users", people.change("ada@example.com", ending=False))
    await service.until_refused(grant["access_token"], "credentials_changed")
    assert (await service.refresh(grant["refresh_token"])).status_code == 200


async def test_an_access_token_that_outlived_its_session_can_be_revoked(service: Service, redis: Any) -> None:
    grant = await service.sign_in()
    await redis.delete(f"auth:session:{session_of(grant['refresh_token'])}")
    response = await service.public.post("/auth/revoke", data={"token": grant["access_token"]})
    assert response.status_code == 200
    await service.until_refused(grant["access_token"], "session_revoked")


async def test_what_a_newer_release_has_added_to_a_session_outlives_a_refresh_by_this_one(
    service: Service, redis: Any
) -> None:
    token = (await service.sign_in())["refresh_token"]
    await rewrite_session(redis, session_of(token), {"of-a-newer-release": "kept"})
    for _ in range(2):
        response = await service.refresh(token)
        assert response.status_code == 200, response.text
        token = response.json()["refresh_token"]
    assert await redis.hget(f"auth:session:{session_of(token)}", "of-a-newer-release") == "kept"
