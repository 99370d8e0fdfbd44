"""What ended early: followed on the issuer's revocation stream, held in memory, asked on every request."""

import asyncio
import heapq
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service_kit.jwks import KeyCache
from service_kit.tokens import Caller, CannotVerify, TokenRefused

STREAM = "auth:revocations"
EPOCH = "auth:epoch"

_BLOCK = 1.0
_BLOCK_WHILE_CATCHING_UP = 0.1
_RECONNECT = 5.0
_EXPIRED_AT_ONCE = 2_000

Kind = Literal["session", "subject", "key"]

logger = logging.getLogger(__name__)
staleness_seconds = Gauge(
    "revocations_staleness_seconds",
    "Time since it was last proven that every revocation is known.",
    multiprocess_mode="livemax",
)
learnt = Counter("revocations_learnt", "Revocations learnt from the stream.", ["kind"])


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the stream. `value` is the session id, the subject or the key id; `until` Unix seconds."""

    kind: Kind
    value: str
    until: int
    credentials_version: int = 0


@dataclass(slots=True)
class _Second:
    """What stops to matter in one second; shared, so that an entry costs little more than its name."""

    until: int
    values: list[str] = field(default_factory=list)

    def __lt__(self, other: "_Second") -> bool:
        return self.until < other.until


class Revocations:
    """What this process knows of revocations, and how sure it may be of that."""

    def __init__(self, ceiling: float = 60.0) -> None:
        self._ceiling = ceiling
        self._proven = False
        self._proven_at = -math.inf
        self._sessions: dict[str, _Second] = {}
        self._subjects: dict[str, _Second] = {}
        self._keys: dict[str, _Second] = {}
        self._held = {"session": self._sessions, "subject": self._subjects, "key": self._keys}
        self._versions: dict[str, int] = {}  # the highest credentials version of each subject held
        self._seconds: dict[int, _Second] = {}
        self._next: list[_Second] = []  # a heap
        self._callbacks: list[Callable[[Revocation], None]] = []

    def check(self, caller: Caller, now: float) -> None:
        """Raise TokenRefused if revoked, CannotVerify if what is held is unproven or too old."""
        # Neither when the clock was set back: it would hide how old the proof is.
        if not (self._proven and -self._ceiling <= now - self._proven_at <= self._ceiling):
            raise CannotVerify("revocations_stale" if self._proven else "revocations_unproven")
        if caller.session_id in self._sessions:
            raise TokenRefused("session_revoked", "The session has ended.")
        if caller.key_id in self._keys:
            raise TokenRefused("key_revoked", "The key that signed the token was revoked.")
        version = caller.credentials_version
        if version is not None and version < self._versions.get(caller.subject, 0):
            raise TokenRefused(
                "credentials_changed", "The credentials or roles have changed: refresh, or sign in."
            )

    def staleness(self, now: float) -> float:
        """Seconds since the last proof; infinite while unproven."""
        return max(0.0, now - self._proven_at) if self._proven else math.inf

    def prove(self, now: float) -> None:
        """Everything revoked until now is held."""
        self._proven = True
        self._proven_at = now

    def unprove(self) -> None:
        """What is held may not be all. It stays until it expires."""
        self._proven = False

    def on_change(self, callback: Callable[[Revocation], None]) -> None:
        """Call back for each revocation learnt, at once, on the event loop."""
        self._callbacks.append(callback)

    def add(self, revocation: Revocation) -> None:
        """Hold a revocation until it expires and tell the listeners, if it says something new."""
        held, value = self._held[revocation.kind], revocation.value
        known = held.get(value)
        higher = revocation.credentials_version > self._versions.get(value, 0)
        if known is not None and known.until >= revocation.until and not higher:
            return
        if higher:
            self._versions[value] = revocation.credentials_version
        if known is None or known.until < revocation.until:
            held[value] = self._second(revocation.until)
            held[value].values.append(value)
        learnt.labels(revocation.kind).inc()
        for callback in self._callbacks:
            callback(revocation)

    def expire(self, now: float) -> None:
        """Forget what no longer matters, a bounded number at a time so that no request waits for it."""
        for _ in range(_EXPIRED_AT_ONCE):
            if not self._next or self._next[0].until > now:
                return
            if self._next[0].values:
                self._forget(self._next[0].values.pop(), now)
            else:
                del self._seconds[heapq.heappop(self._next).until]

    def __len__(self) -> int:
        return len(self._sessions) + len(self._subjects) + len(self._keys)

    def _second(self, until: int) -> _Second:
        second = self._seconds.get(until)
        if second is None:
            second = self._seconds[until] = _Second(until)
            heapq.heappush(self._next, second)
        return second

    def _forget(self, value: str, now: float) -> None:
        for held in self._held.values():
            if value in held and held[value].until <= now:
                del held[value]
                if held is self._subjects:
                    self._versions.pop(value, None)


class EntryId(NamedTuple):
    """A stream entry's id."""

    milliseconds: int
    sequence: int

    @classmethod
    def read(cls, text: str) -> "EntryId":
        """From Redis's `milliseconds-sequence`."""
        milliseconds, sequence = text.split("-")
        return cls(int(milliseconds), int(sequence))

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


_BEGINNING = EntryId(0, 0)


@dataclass(frozen=True, slots=True)
class _Answer:
    entries: list[tuple[str, dict[str, str]]]
    epoch: str | None
    last: EntryId | None


class Follower:
    """Keeps Revocations in step with the stream, and keys with its epoch."""

    def __init__(self, redis: Redis, revocations: Revocations, keys: KeyCache) -> None:
        self._redis = redis
        self._revocations = revocations
        self._keys = keys
        self._cursor = _BEGINNING
        self._epoch: str | None = None
        self._reading_on = False
        self._connected_at = time.monotonic()
        self.caught_up = False  # whether the stream was ever read to its end

    async def run(self) -> None:
        """Follow until cancelled. A round without an answer only lets staleness grow."""
        failures = 0
        while True:
            try:
                answer = await self._ask()
            except (RedisError, OSError, TimeoutError) as error:
                # Redis's messages hold no data of ours, but the first of a series is enough.
                logger.log(
                    logging.DEBUG if failures else logging.WARNING, "revocations not followed: %s", error
                )
                failures += 1
                await asyncio.sleep(min(0.05 * 2**failures, 1.0) * random.uniform(0.5, 1.0))  # noqa: S311
            else:
                if failures:
                    logger.info("revocations followed again after %d failures", failures)
                failures = 0
                if not self._take(answer):
                    await asyncio.sleep(_BLOCK_WHILE_CATCHING_UP)
                await self._leave_old_connection()
            now = time.time()
            self._revocations.expire(now)
            staleness_seconds.set(self._revocations.staleness(now))

    async def _leave_old_connection(self) -> None:
        """A failover may cut no connection: whoever stays on the former primary hears nothing more, and no error."""
        if time.monotonic() - self._connected_at > _RECONNECT:
            self._connected_at = time.monotonic()
            # It complains when closing takes long, as it may in a busy process; nothing stays open.
            with suppress(RedisError):
                await self._redis.connection_pool.disconnect()

    async def _ask(self) -> _Answer:
        block = _BLOCK if self._reading_on else _BLOCK_WHILE_CATCHING_UP
        # One after the other on one connection, but no MULTI, inside which nothing blocks: the epoch and the
        # last id are read after the entries, so they vouch for them.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xread({STREAM: str(self._cursor)}, count=1000, block=int(block * 1000))
        pipeline.get(EPOCH)
        pipeline.xinfo_stream(STREAM)
        read, epoch, info = await pipeline.execute(raise_on_error=False)
        if isinstance(info, ResponseError) and "no such key" in str(info):
            info = None
        for reply in (read, epoch, info):
            if isinstance(reply, Exception):
                raise reply
        last = EntryId.read(info["last-generated-id"]) if info is not None else None
        return _Answer(read[0][1] if read else [], epoch, last)

    def _take(self, answer: _Answer) -> bool:
        """Whether to go on at once."""
        if answer.epoch is None or answer.last is None:
            self._start_over("the epoch or the stream is missing")
            return False
        if answer.epoch != self._epoch:
            self._start_over("a new epoch" if self._epoch else "the first epoch")
            self._epoch = answer.epoch
            self._keys.drop_all()
            return True
        if answer.last < self._cursor:
            self._start_over("the stream ends before what was read of it")
            return True
        for entry_id, fields in answer.entries:
            self._apply(fields)
            self._cursor = EntryId.read(entry_id)
        self._reading_on = not answer.entries or self._cursor >= answer.last
        if self._reading_on:
            # Nothing came although it was waited for: what lies between cursor and last id was trimmed.
            self._revocations.prove(time.time())
            self.caught_up = True
        return True

    def _start_over(self, why: str) -> None:
        if self._reading_on or self._epoch is None:
            logger.warning("revocations are read from the beginning: %s", why)
        self._revocations.unprove()
        self._cursor = _BEGINNING
        self._reading_on = False

    def _apply(self, fields: Mapping[str, str]) -> None:
        try:
            revocation = _read(fields)
        except (KeyError, ValueError):
            logger.error(
                "a malformed entry on the revocation stream is passed over: kind=%r", fields.get("kind")
            )
            return
        if revocation is None or revocation.until <= time.time():
            return
        if revocation.kind == "key":
            self._keys.drop(revocation.value)
        self._revocations.add(revocation)


def _read(fields: Mapping[str, str]) -> Revocation | None:
    """KeyError or ValueError if malformed; None for an entry that revokes nothing."""
    match fields["kind"]:
        case "session":
            return Revocation("session", fields["sid"], int(fields["until"]))
        case "subject":
            return Revocation("subject", fields["sub"], int(fields["until"]), int(fields["cv"]))
        case "key":
            return Revocation("key", fields["kid"], int(fields["until"]))
        case "start":
            return None
        case _:
            raise ValueError("unknown kind")


def connect(url: str, user: str, password: str | None) -> Redis:
    """A client for the follower alone: it waits as long as a round may take, and no part of it tries again."""
    options: dict[str, Any] = {} if password is None else {"username": user, "password": password}
    return Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=1.0,
        socket_timeout=_BLOCK + 1.0,
        retry=Retry(NoBackoff(), 0),
        # The ACL user may read one stream and one key: ask for nothing else on connecting.
        protocol=2,
        driver_info=None,
        **options,
    )
