"""One store password stolen, each in turn: what docs/security.md calls possible is, and nothing more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import jwt
import pytest
from conftest import Service, started
from people import People
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoPermissionError, ResponseError
from stored import age_session, read_ring
from stores import OPERATOR, PASSWORD, Stores, signed_in
from test_rotation import kid_of
from test_user_events import until, until_ended, until_handled

from auth_service import audit, connections
from auth_service.clients.models import Client, hash_secret
from auth_service.keys.models import Ring
from auth_service.keys.service import STORED
from auth_service.keys.signing import Signer, new_key
from auth_service.main import make_keys, make_store
from auth_service.records import Records
from auth_service.sessions.models import NOT_AUTHENTICATED
from auth_service.store import StoreUnavailable

Told = Callable[..., list[dict[str, Any]]]
THIEFS_OWN = b"a key of the thief's own, and long enough"
ADA = {"grant_type": "password", "username": "ada@example.com", "password": People.PASSWORD}


@dataclass
class Theft:
    """The service as it runs, and who has auth-service's Redis password and nothing else."""

    service: Service
    people: People
    redis: Any
    stores: Stores

    async def refused_records(self, kind: str) -> float:
        text = (await self.service.internal.get("/metrics")).text
        sample = f'records_refused_total{{kind="{kind}"}} '
        return sum(float(line.removeprefix(sample)) for line in text.splitlines() if line.startswith(sample))

    async def session(self, grant: dict[str, Any]) -> tuple[str, dict[str, str]]:
        key = f"auth:session:{self.service.session_of(grant['access_token'])}"
        return key, await self.redis.hgetall(key)


@pytest.fixture
async def theft(stores: Stores, people: People) -> AsyncIterator[Theft]:
    async with (
        started(stores.settings(people)) as service,
        signed_in(stores.redis, "auth", stores.secret("auth-service/redis_password")) as redis,
    ):
        yield Theft(service, people, redis, stores)


def reasons(told: Told, event: str) -> list[tuple[str, str]]:
    return [(each["outcome"], each["reason"]) for each in told() if each["event"] == event]


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    return response.status_code, response.json()["error"], response.json()["code"]


def planted_rings(ring: Ring) -> list[str]:
    """What somebody may write who knows our code, but not our key."""
    plain = json.loads(ring.to_json())
    as_before = [{**key, "sealed": key.pop("private")} for key in (plain["current"], plain["next"])]
    return [
        ring.to_json(),
        json.dumps({"current": as_before[0], "next": as_before[1], "retired": []}),
        Records([THIEFS_OWN], "key ring").seal(STORED, ring.to_json()),
    ]


async def test_auths_password_plants_no_signing_key(theft: Theft, told: Told) -> None:
    service, genuine = theft.service, (await theft.service.public.get("/.well-known/jwks.json")).json()
    ours = (await service.sign_in())["access_token"]
    own = Ring.first(new_key(0), new_key(0), 0)
    claims = {
        **jwt.decode(ours, options={"verify_signature": False}),
        "sub": "somebody-else",
        "roles": ["admin"],
    }
    forged = Signer.of(own.current).sign(claims)
    for text in planted_rings(own):
        before = await theft.refused_records("key ring")
        for place in (STORED, "auth:ring"):
            await theft.redis.set(place, text)

        async def is_noticed(before: float = before) -> bool:
            return await theft.refused_records("key ring") > before

        await until(is_noticed)
        assert (await service.public.get("/.well-known/jwks.json")).json() == genuine
        async with service.client(forged) as client:
            assert (await client.get("/auth/verify")).status_code == 401
        # Whoever runs goes on with the ring that was read; whoever starts has none, and says so.
        assert kid_of((await service.sign_in())["access_token"]) == kid_of(ours)
        async with started(theft.stores.settings(theft.people), ready=False) as starting:
            assert (await starting.internal.get("/readyz")).status_code == 503
            response = await starting.token(**ADA)
            assert (response.status_code, response.json()["code"]) == (503, "signing_keys_unavailable")
    assert ("refused", "ring_forged") in reasons(told, "keys")


async def test_auths_password_brings_no_revoked_key_back_while_a_replica_runs(
    theft: Theft, told: Told
) -> None:
    service, older = theft.service, await theft.redis.get(STORED)
    leaked = kid_of((await service.sign_in())["access_token"])
    await service.parts.keys.revoke(leaked)
    newest = await theft.redis.get(STORED)
    await theft.redis.set(STORED, older)
    published = (await service.public.get("/.well-known/jwks.json")).json()["keys"]
    assert leaked not in {key["kid"] for key in published}
    assert await theft.redis.get(STORED) == newest
    assert ("put_back", "older_ring") in reasons(told, "keys")


async def test_an_older_ring_put_back_while_no_replica_runs_is_believed_and_signs_nothing_by_itself(
    stores: Stores, people: People
) -> None:
    """What is left possible: a revoked key is good again, for whoever holds it besides."""
    settings = stores.settings(people)
    store = make_store(settings)
    keys = make_keys(settings, store)
    leaked = (await keys.load()).current.kid
    async with signed_in(stores.redis, "auth", stores.secret("auth-service/redis_password")) as redis:
        older = await redis.get(STORED)
        await keys.revoke(leaked)
        await store.close()
        await redis.set(STORED, older)
        async with started(settings) as service:
            published = (await service.public.get("/.well-known/jwks.json")).json()["keys"]
            assert leaked in {key["kid"] for key in published}
        # The private key is sealed with the rest; nothing of the ring can be read with the password alone.
        assert leaked not in older
        assert (await read_ring(redis)).current.private not in older


CHANGES = {
    "sub": "019ab1d0-7c1e-7f30-9a55-2f6f1c0de001", "client_id": "reports", "scope": "* users:admin", "cv": "99",
    "auth_time": "9999999999", "device": "another", "address": "192.0.2.0/24", "created": "1", "expires": "9999999999",
    "generation": "7", "attempt": "7", "parent_attempt": "7", "mac": "A" * 43, "roles": "admin",
}  # fmt: skip


async def test_auths_password_changes_nothing_about_a_session(theft: Theft, told: Told) -> None:
    grant = await theft.service.sign_in()
    key, genuine = await theft.session(grant)
    assert {*CHANGES, "made", "used"} == {*genuine, "roles"}, "each field is tried"
    for name, value in CHANGES.items():
        await theft.redis.hset(key, name, value)
        response = await theft.service.refresh(grant["refresh_token"])
        assert refusal(response) == (400, "invalid_grant", "session_ended"), name
        await theft.redis.hdel(key, name)
        if name in genuine:
            response = await theft.service.refresh(grant["refresh_token"])
            assert refusal(response) == (400, "invalid_grant", "session_ended"), f"without {name}"
            await theft.redis.hset(key, name, genuine[name])
    await theft.redis.hset(key, b"device", b"\xff\xfe")
    assert (await theft.service.refresh(grant["refresh_token"])).status_code == 400
    assert set(reasons(told, "refresh")) == {("refused", "session_forged")}
    assert await theft.refused_records("session") > len(CHANGES)
    await theft.redis.hset(key, mapping=genuine)
    assert (await theft.service.refresh(grant["refresh_token"])).status_code == 200


async def test_auths_password_puts_no_session_in_anothers_place(theft: Theft) -> None:
    theft.people.add("root@example.com", "admin")
    own, victims = await theft.service.sign_in(), await theft.service.sign_in("root@example.com")
    (own_key, _), (_, victims_record) = await theft.session(own), await theft.session(victims)
    await theft.redis.delete(own_key)
    await theft.redis.hset(own_key, mapping=victims_record)
    response = await theft.service.refresh(own["refresh_token"])
    assert refusal(response) == (400, "invalid_grant", "session_ended")


async def test_auths_password_shows_nobody_the_sessions_of_another(theft: Theft) -> None:
    theft.people.add("root@example.com", "admin")
    own, victims = await theft.service.sign_in(), await theft.service.sign_in("root@example.com")
    [index] = [f"auth:sessions:{theft.people['ada@example.com']['id']}"]
    await theft.redis.zadd(index, {theft.service.session_of(victims["access_token"]): 1})
    async with theft.service.client(own["access_token"]) as client:
        items = (await client.get("/auth/sessions")).json()["items"]
    assert [item["id"] for item in items] == [theft.service.session_of(own["access_token"])]


async def test_auths_password_lets_no_session_outlive_its_absolute_end(theft: Theft) -> None:
    grant = await theft.service.sign_in()
    key, _ = await theft.session(grant)
    await age_session(theft.redis, key.removeprefix("auth:session:"), 31 * 86400)
    await theft.redis.persist(key)
    response = await theft.service.refresh(grant["refresh_token"])
    assert refusal(response) == (400, "invalid_grant", "session_ended")


async def test_a_forged_session_can_still_be_signed_out(theft: Theft) -> None:
    grant = await theft.service.sign_in()
    key, _ = await theft.session(grant)
    await theft.redis.hset(key, "client_id", "reports")
    response = await theft.service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert response.status_code == 200
    await theft.service.until_refused(grant["access_token"], "session_revoked")


async def test_an_ended_session_put_back_is_good_for_its_own_token_until_the_person_ends_it(
    theft: Theft,
) -> None:
    """What is left possible: the record alone makes no token, and a change of password still ends it."""
    grant = await theft.service.sign_in()
    key, record = await theft.session(grant)
    await theft.service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await theft.redis.hset(key, mapping=record)
    renewed = await theft.service.refresh(grant["refresh_token"])
    assert renewed.status_code == 200
    _, renewed_record = await theft.session(grant)
    theft.people.change("ada@example.com")
    token = renewed.json()["refresh_token"]
    assert (await theft.service.refresh(token)).json()["code"] == "credentials_changed"
    await theft.redis.hset(key, mapping=renewed_record)
    assert (await theft.service.refresh(token)).json()["code"] == "credentials_changed"


async def test_a_session_hidden_from_its_owner_outlives_end_all_but_no_change_of_password(
    theft: Theft,
) -> None:
    """What is left possible."""
    grant = await theft.service.sign_in()
    await theft.redis.delete(f"auth:sessions:{theft.people['ada@example.com']['id']}")
    async with theft.service.client(grant["access_token"]) as client:
        assert (await client.delete("/auth/sessions")).status_code == 204
    renewed = await theft.service.refresh(grant["refresh_token"])
    assert renewed.status_code == 200
    theft.people.change("ada@example.com")
    response = await theft.service.refresh(renewed.json()["refresh_token"])
    assert refusal(response) == (400, "invalid_grant", "credentials_changed")


async def test_the_two_times_that_are_the_stores_own_decide_no_right(theft: Theft) -> None:
    grant = await theft.service.sign_in()
    key, record = await theft.session(grant)
    assert set(record) & NOT_AUTHENTICATED == {"mac", "made", "used"}
    for value in ("0", "9" * 30, "not a time", "-1"):
        await theft.redis.hset(key, mapping={"made": value, "used": value})
        async with theft.service.client(grant["access_token"]) as client:
            assert (await client.get("/auth/sessions")).status_code == 200
        response = await theft.service.refresh(grant["refresh_token"])
        assert response.status_code == 200, value
        grant = response.json()


async def test_auths_password_makes_no_client_and_gives_none_more(theft: Theft, told: Told) -> None:
    clients, redis = theft.service.parts.clients, theft.redis
    secret = await clients.register("reports", {"users:read"}, set())
    billing = await clients.register("billing", {"users:admin"}, {"user-service"})
    own = Client("reports", (hash_secret(secret),), frozenset({"*"}), frozenset({"user-service"}))
    genuine = await redis.hgetall("auth:clients")
    for planted in (
        own.to_json(),
        json.dumps(asdict(own), default=list),
        Records([THIEFS_OWN], "client").seal("reports", own.to_json()),
        genuine["billing"],
        "",
    ):
        await redis.hset("auth:clients", "reports", planted)
        for held in (secret, billing):
            response = await theft.service.public.post(
                "/auth/token", data={"grant_type": "client_credentials"}, auth=("reports", held)
            )
            assert refusal(response) == (401, "invalid_client", "invalid_client"), planted
    assert set(reasons(told, "client")) == {("refused", "client_forged")}
    await clients.register("reports", {"users:read"}, set())  # an operator puts it right
    assert [client.id for client in await clients.all()] == ["billing", "first-party", "reports"]


async def test_auths_password_speaks_for_no_operator(theft: Theft, told: Told) -> None:
    """Nor does it make a metric of each word that it leaves."""
    left = {"event": "clients", "outcome": "removed", "reason": "of-the-thief", "actor": audit.OPERATOR}
    await theft.redis.rpush(audit.COMMANDS, json.dumps(left))

    async def is_told() -> bool:
        return bool(reasons(told, "commands"))

    await until(is_told)
    assert reasons(told, "commands") == [("refused", "command_forged")]
    assert told(audit.OPERATOR) == []
    assert "of-the-thief" not in (await theft.service.internal.get("/metrics")).text


async def test_a_revocation_deleted_from_the_stream_stays_with_everybody_who_has_read_it(
    theft: Theft,
) -> None:
    grant = await theft.service.sign_in()
    await theft.service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    await theft.service.until_refused(grant["access_token"], "session_revoked")
    [(entry, _)] = await theft.redis.xrevrange("auth:revocations", count=1)
    await theft.redis.xdel("auth:revocations", entry)
    await theft.redis.set("auth:epoch", "0" * 32)
    async with theft.service.client(grant["access_token"]) as client:
        for _ in range(20):
            assert (await client.get("/auth/verify")).status_code in (401, 503)
            await asyncio.sleep(0.05)


async def test_what_is_put_in_the_way_of_an_event_keeps_it_from_ending_no_session(theft: Theft) -> None:
    grant = await theft.service.sign_in()
    await theft.redis.set(f"auth:cv:{theft.people['ada@example.com']['id']}", "not a version")
    await theft.redis.xadd("users", theft.people.change("ada@example.com"))
    await until_ended(theft.service, grant)


@pytest.mark.parametrize(
    "what", ["auth:session:{sid}", "auth:sessions:{sub}", "auth:cv:{sub}", "a session's cv"]
)
async def test_what_is_no_record_of_ours_stops_neither_its_person_nor_anybody_elses_events(
    theft: Theft, what: str
) -> None:
    """It would outlast a new password: nobody looks at what lies where."""
    service, people = theft.service, theft.people
    people.add("bob@example.com")
    grant, bobs = await service.sign_in(), await service.sign_in("bob@example.com")
    sid, sub = service.session_of(grant["access_token"]), people["ada@example.com"]["id"]
    if what == "a session's cv":
        await theft.redis.hset(f"auth:session:{sid}", "cv", "no number")
    else:
        key = what.format(sid=sid, sub=sub)
        await theft.redis.delete(key)
        await theft.redis.rpush(key, "x")
    async with service.client((await service.sign_in())["access_token"]) as client:
        assert (await client.get("/auth/sessions")).status_code == 200
    assert (await service.refresh(grant["refresh_token"])).status_code in (200, 400)
    await theft.redis.xadd("users", people.change("ada@example.com"))
    await theft.redis.xadd("users", people.change("bob@example.com"))
    await until_ended(service, bobs)
    await until_handled(theft.redis)
    async with service.client((await service.sign_in())["access_token"]) as client:
        assert (await client.delete("/auth/sessions")).status_code in (200, 204)


async def test_an_event_that_the_server_cannot_take_keeps_no_other_waiting(
    theft: Theft, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, people = theft.service, theft.people
    people.add("bob@example.com")
    bobs, broken = await service.sign_in("bob@example.com"), people["ada@example.com"]["id"]
    revocations: Any = service.parts.events._revocations
    revoke_subject = revocations.revoke_subject

    async def revoke(subject: str, *rest: Any) -> Any:
        if subject == broken:
            raise StoreUnavailable from ResponseError("ERR what it holds of this person is odd")
        return await revoke_subject(subject, *rest)

    monkeypatch.setattr(revocations, "revoke_subject", revoke)
    async with theft.redis.pipeline(transaction=True) as both:
        both.xadd("users", people.change("ada@example.com"))
        both.xadd("users", people.change("bob@example.com"))
        await both.execute()
    await until_ended(service, bobs)
    [group] = await theft.redis.xinfo_groups("users")
    assert group["pending"] == 1, "it is tried again"


async def test_a_strange_entry_of_the_revocation_stream_keeps_nobody_signed_in(theft: Theft) -> None:
    await theft.redis.xtrim("auth:revocations", maxlen=0)
    await theft.redis.xadd("auth:revocations", {"a": "b"})
    grant = await theft.service.sign_in()
    response = await theft.service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert response.status_code == 200
    await theft.service.until_refused(grant["access_token"], "session_revoked")


async def test_user_services_password_ends_sessions_and_makes_no_token(
    stores: Stores, people: People
) -> None:
    password = stores.secret("user-service/events_redis_password")
    async with (
        started(stores.settings(people)) as service,
        signed_in(stores.redis, "users", password) as users,
    ):
        grant = await service.sign_in()
        event = {
            "type": "user.credentials_changed",
            "sub": people["ada@example.com"]["id"],
            "cv": "1",
            "sessions_cv": "1",
            "roles": "admin",
        }
        for strange in ({}, {"cv": "9" * 400}, {"cv": "-1"}, {"sessions_cv": str(2**53)}, {"sub": "x" * 65}):
            await users.xadd("users", event | strange)
        response = await service.refresh(grant["refresh_token"])
        assert response.status_code == 200, "nothing of it raised a version"
        claims = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
        assert claims["roles"] == []
        await users.xadd("users", event | {"cv": "7", "sessions_cv": "7"})
        await service.until_refused(response.json()["access_token"], "credentials_changed")
        # An event kept from being read ends the session at the next refresh: user-service is asked.
        grant = await service.sign_in()
        await users.xtrim("users", maxlen=0)
        people.change("ada@example.com", status="disabled")
        assert (await service.refresh(grant["refresh_token"])).json()["code"] == "account_inactive"


async def test_the_limits_password_clears_counters_and_reads_no_address(
    stores: Stores, people: People
) -> None:
    async with (
        started(stores.settings(people)) as service,
        signed_in(stores.limits, "limits", stores.secret("auth-service/limits_redis_password")) as limits,
    ):
        wrong = {**ADA, "password": "wrong"}
        while (await service.token(**wrong)).status_code != 429:
            pass
        keys = [key async for key in limits.scan_iter()]
        stored = [
            await limits.hgetall(key) if await limits.type(key) == "hash" else await limits.get(key)
            for key in keys
        ]
        assert keys
        assert "ada" not in str(keys) + str(stored)
        await limits.delete(*keys)
        assert (await service.token(**wrong)).json()["code"] == "invalid_credentials"
        for key in keys:
            await limits.delete(key)
            await limits.set(key, "not a counter")
        assert (await service.token(**wrong)).status_code in (400, 429, 503)


async def test_the_followers_password_reads_ids_and_nothing_that_signs_in(
    stores: Stores, people: People
) -> None:
    async with (
        started(stores.settings(people)) as service,
        signed_in(stores.redis, "follower", stores.secret("gateway/revocations_redis_password")) as follower,
    ):
        grant = await service.sign_in()
        sid = service.session_of(grant["access_token"])
        await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
        [(_, entries)] = await follower.xread({"auth:revocations": "0"})
        assert set(entries[-1][1]) == {"kind", "until", "sid"}
        with pytest.raises(NoPermissionError):
            await follower.hgetall(f"auth:session:{sid}")
        with pytest.raises(NoPermissionError):
            await follower.xadd("auth:revocations", {"kind": "session", "until": "1", "sid": sid})


@pytest.mark.parametrize(
    ("user", "password_at"),
    [
        ("auth", "auth-service/redis_password"),
        ("follower", "services/revocations_redis_password"),
        ("users", "user-service/events_redis_password"),
        ("health", "redis/health_password"),
    ],
)
async def test_any_password_opens_every_connection_there_is_and_a_metric_tells(
    stores: Stores, people: People, user: str, password_at: str
) -> None:
    """What is left possible: nobody new is let in, and whoever is connected goes on."""
    most = 60
    async with (
        started(stores.settings(people)) as service,
        signed_in(stores.redis, OPERATOR, PASSWORD) as operator,
    ):
        grant = await service.sign_in()
        await operator.config_set("maxclients", most)
        taken: list[Redis] = []

        async def take_all() -> None:
            for _ in range(most):
                taken.append(signed_in(stores.redis, user, stores.secret(password_at)))
                await taken[-1].ping()

        with pytest.raises(ConnectionLost, match="max number of clients"):
            await take_all()
        await connections.look("redis", service.parts.store)
        text = (await service.internal.get("/metrics")).text
        assert f'redis_connections{{server="redis"}} {most}.0' in text
        assert f'redis_connections_limit{{server="redis"}} {most}.0' in text
        assert (await service.refresh(grant["refresh_token"])).status_code == 200
        for one in taken:
            await one.aclose()
        await service.sign_in()
