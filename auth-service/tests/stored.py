"""What the store holds, changed as only the holder of the key-encryption key can: so a test lets time pass."""

from dataclasses import replace
from typing import Any

from conftest import SECRETS

from auth_service.keys.models import Key, Ring
from auth_service.keys.service import STORED
from auth_service.records import Records
from auth_service.sessions.models import NOT_AUTHENTICATED


def records(kind: str) -> Records:
    """As the service under test makes and reads them."""
    return Records([SECRETS["key_encryption_key"].get_secret_value().encode()], kind)


async def read_ring(redis: Any) -> Ring:
    return Ring.from_json(records("key ring").open(STORED, await redis.get(STORED)).text)


async def age(redis: Any, seconds: int) -> None:
    """Let the stored ring be that much older."""

    def older(key: Key) -> Key:
        moments = ("published_at", "current_from", "retired_at")
        known = {name: getattr(key, name) for name in moments if getattr(key, name) is not None}
        return replace(key, **{name: moment - seconds for name, moment in known.items()})

    ring = await read_ring(redis)
    aged = replace(
        ring, current=older(ring.current), next=older(ring.next), retired=tuple(map(older, ring.retired))
    )
    await redis.set(STORED, records("key ring").seal(STORED, aged.to_json()))


async def age_session(redis: Any, session_id: str, seconds: int) -> None:
    """Let a stored session have begun, and end, that much earlier."""
    stored = await redis.hgetall(f"auth:session:{session_id}")
    moments = {name: str(int(stored[name]) - seconds) for name in ("created", "expires")}
    await rewrite_session(redis, session_id, moments)
    await redis.hincrby(f"auth:session:{session_id}", "used", -1000 * seconds)


async def rewrite_session(redis: Any, session_id: str, changes: dict[str, str]) -> None:
    """Change fields of a stored session, or add some, as a service with the key would."""
    key = f"auth:session:{session_id}"
    stored = await redis.hgetall(key)
    fields = {name: value for name, value in stored.items() if name not in NOT_AUTHENTICATED} | changes
    await redis.hset(key, mapping=fields | {"mac": records("session").mac(session_id, fields)})
