"""The users that deploy/compose gives both Redis servers: each can do all that it must, and nothing more."""

from collections.abc import Sequence

import pytest
from conftest import started
from people import People
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from stores import OPERATOR, PASSWORD, Stores, signed_in
from test_rotation import command, kid_of
from test_user_events import until_ended

from service_kit import testing


async def refused(server: testing.RedisServer) -> list[str]:
    """Which users the rules refused something, and what."""
    async with signed_in(server, OPERATOR, PASSWORD) as redis:
        return [f"{entry['username']}: {entry['object']}" for entry in await redis.acl_log()]


async def test_auth_service_can_do_all_it_does(stores: Stores, people: People) -> None:
    settings = stores.settings(people)
    async with started(settings) as service:
        grant, other = await service.sign_in(), await service.sign_in()
        assert (await service.refresh(grant["refresh_token"])).status_code == 200
        async with service.client(grant["access_token"]) as client:
            assert len((await client.get("/auth/sessions")).json()["items"]) == 2
            assert (await client.delete("/auth/sessions", params={"keep": "current"})).status_code == 204
        await service.until_refused(other["access_token"], "session_revoked")
        async with signed_in(
            stores.redis, "users", stores.secret("user-service/events_redis_password")
        ) as users:
            await users.xadd("users", people.change("ada@example.com"))
        await until_ended(service, grant)
        failed = await service.token(grant_type="password", username="ada@example.com", password="wrong")
        assert failed.headers["ratelimit-policy"].endswith(";q=10;w=60"), "a quarter is what memory allows"
        kid = kid_of(grant["access_token"])
        for words in ("keys list", "clients add reports", "clients list", f"keys revoke {kid}"):
            await command(settings, *words.split())
    assert await refused(stores.redis) == await refused(stores.limits) == []


NOT_FOR_SERVICES = (
    "KEYS *", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "CONFIG GET *", "ACL LIST", "SHUTDOWN NOSAVE", "SAVE", "MONITOR",
    "REPLICAOF NO ONE", "CLIENT LIST", "CLIENT KILL TYPE normal", "MODULE LIST", "SLOWLOG GET", "INFO", "INFO server",
)  # fmt: skip
OUT_OF_AUTH = ("GET orders", "SET orders 1", "XADD orders * a 1", "PUBLISH orders 1", "SUBSCRIBE orders")
OF_AUTH = (
    "GET auth:keyring",
    "HGETALL auth:clients",
    "SET auth:keyring 1",
    "DEL auth:session:1",
    "XADD auth:revocations * a 1",
)
SCRIPTS = ("EVAL return(1) 0", "SCRIPT FLUSH", "FUNCTION LIST")


@pytest.mark.parametrize(
    ("server", "user", "password_at", "allowed", "denied"),
    [
        (
            "redis",
            "auth",
            "auth-service/redis_password",
            ("SET auth:written 1", "WAITAOF 0 0 0", "INFO clients"),  # as with replicas
            (*NOT_FOR_SERVICES, *OUT_OF_AUTH),
        ),
        (
            "redis",
            "follower",
            "auth-service/revocations_redis_password",
            (
                *("XREAD STREAMS auth:revocations 0", "GET auth:epoch", "XINFO STREAM auth:revocations"),
                "INFO replication",
            ),
            (*NOT_FOR_SERVICES, *OUT_OF_AUTH, *OF_AUTH, *SCRIPTS, "SET auth:epoch 1", "XREAD STREAMS users 0"),
        ),
        (
            "redis",
            "users",
            "user-service/events_redis_password",
            ("XADD users * a 1", "WAITAOF 1 0 500", "XLEN users", "XTRIM users MAXLEN 9"),
            (*NOT_FOR_SERVICES, *OUT_OF_AUTH, *OF_AUTH, *SCRIPTS, "GET auth:epoch", "DEL users"),
        ),
        (
            "redis",
            "health",
            "redis/health_password",
            ("PING",),
            (*NOT_FOR_SERVICES, *OUT_OF_AUTH, *OF_AUTH, *SCRIPTS, "GET auth:epoch", "XLEN users"),
        ),
        (
            "limits",
            "limits",
            "auth-service/limits_redis_password",
            ("SET signin:account:1 1", "EVAL return(1) 0", "INFO clients"),
            NOT_FOR_SERVICES,
        ),
    ],
)  # fmt: skip
async def test_nobody_can_do_more_than_they_must(
    stores: Stores, server: str, user: str, password_at: str, allowed: Sequence[str], denied: Sequence[str]
) -> None:
    async with signed_in(stores.redis, OPERATOR, PASSWORD) as operator:
        for stream in ("auth:revocations", "users"):  # of which allowed commands speak
            await operator.xadd(stream, {"a": "1"})
    async with signed_in(getattr(stores, server), user, stores.secret(password_at)) as redis:
        for words in allowed:
            await redis.execute_command(*words.split())
        for words in denied:
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*words.split())


async def test_a_script_reaches_no_further_than_who_runs_it(stores: Stores) -> None:
    async with signed_in(stores.redis, "auth", stores.secret("auth-service/redis_password")) as redis:
        with pytest.raises(ResponseError, match=r"ACL failure|NOPERM"):
            await redis.eval("return redis.call('SET', 'orders', 1)", 0)


async def test_nobody_comes_in_with_less_than_a_password_of_their_own(stores: Stores) -> None:
    follower = stores.secret("auth-service/revocations_redis_password")
    for user, password in (
        (None, None),
        ("default", ""),
        ("default", follower),
        ("auth", ""),
        ("auth", follower),
        ("limits", stores.secret("auth-service/limits_redis_password")),  # of the other server
    ):
        async with signed_in(stores.redis, user, password) as redis:
            with pytest.raises(AuthenticationError):
                await redis.ping()
