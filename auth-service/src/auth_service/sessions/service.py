"""Sessions and their refresh tokens: start, rotate, list, end. The store decides every race."""

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from auth_service.records import RecordForged, Records
from auth_service.sessions.exceptions import (
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionForged,
)
from auth_service.sessions.models import NOT_AUTHENTICATED, Lifetimes, Session
from auth_service.sessions.refresh_tokens import RefreshToken, RefreshTokens
from auth_service.store import Script, Store, StoreUnavailable
from service_kit.response_revocations import headers
from service_kit.revocations import Revocation

START = Script("revocations/append.lua", "sessions/ending.lua", "sessions/start.lua")
ROTATE = Script("revocations/append.lua", "sessions/rotate.lua")
END = Script("revocations/append.lua", "sessions/ending.lua", "sessions/end.lua")

# Each one means that another refresh of this very session was first, so there are few.
MOST_TRIES: Final = 10
# Far beyond what a person may have: the index is not authenticated.
MOST_LISTED: Final = 1000


@dataclass(frozen=True, slots=True)
class VerifiedRefreshToken:
    """A proved refresh token and the session that it belongs to, verified; nothing has been changed for it."""

    token: RefreshToken
    session: Session


class Sessions:
    def __init__(
        self,
        store: Store,
        records: Records,
        refresh_tokens: RefreshTokens,
        lifetimes: Lifetimes,
        retention_ms: int,
    ) -> None:
        self._store = store
        self._records = records
        self._refresh_tokens = refresh_tokens
        self._lifetimes = lifetimes
        self._retention = retention_ms

    async def start(
        self, *, subject: str, client_id: str, scope: str, cv: int, now: int, device: str, address: str
    ) -> tuple[Session, str]:
        """A new session and its first refresh token; a person's oldest session makes room."""
        began = Session(
            id=secrets.token_urlsafe(16),
            subject=subject,
            client_id=client_id,
            scope=scope,
            credentials_version=cv,
            auth_time=now,
            device=device,
            address=address,
            created=now,
            expires=now + self._lifetimes.absolute,
            used=now,
        )
        session = self._authenticated(began)
        await self._store.run(
            START,
            sid=session.id,
            sub=subject,
            used=now * 1000,
            record=_flat(session),
            limit=self._lifetimes.per_person,
            idle=self._lifetimes.idle * 1000,
            absolute=self._lifetimes.absolute * 1000,
            retention=self._retention,
        )
        return session, self._refresh_tokens.write(RefreshToken(session.id, 0, 0))

    async def find(self, refresh_token: str) -> VerifiedRefreshToken:
        """Proves the token, reads its session and verifies that; changes nothing."""
        token = self._refresh_tokens.read(refresh_token)
        return VerifiedRefreshToken(token, await self._live(token.session_id))

    async def rotate(self, presented: VerifiedRefreshToken, cv: int) -> tuple[Session, str]:
        """The successor of a proved token; ends the session on reuse.

        the current pair              makes the next generation
        its parent, within the grace  gets the current pair again
        its parent, later             makes the next attempt (a late retry)
        a pair that we never made     changes nothing (an older copy of the store was restored)
        every other older pair        ends the session
        """
        pair, session = presented.token.pair, presented.session
        for _ in range(MOST_TRIES):
            if pair == session.current:
                successor, grace = session.next_generation(cv), None
            elif pair == session.parent:
                successor, grace = session.next_attempt(cv), self._lifetimes.replay * 1000
            elif pair > session.current:
                raise RefreshTokenInvalid
            else:
                ended = await self.end(session.subject, session.id)
                if not ended:
                    raise SessionEnded(self.revocation_of(session.id))
                raise RefreshTokenReused(headers=headers(ended))
            successor = self._authenticated(successor)
            outcome = await self._store.run(
                ROTATE,
                sid=session.id,
                read=session.mac,
                record=_flat(successor),
                grace=grace,
                idle=self._lifetimes.idle * 1000,
                expires=session.expires * 1000,
            )
            if outcome != "changed":
                now = successor if outcome == "rotated" else session
                refresh_token = self._refresh_tokens.write(RefreshToken(session.id, *now.current))
                current = now if now.credentials_version == cv else replace(now, credentials_version=cv)
                return current, refresh_token
            session = await self._live(session.id)  # another refresh was first
        raise StoreUnavailable

    async def get(self, session_id: str) -> Session | None:
        """None for a record that is none of ours as well: it is as good as no session."""
        with suppress(SessionEnded):
            return await self._live(session_id)
        return None

    async def of(self, subject: str) -> Sequence[Session]:
        """A person's live sessions, the newest first."""
        async with self._store.connection() as redis:
            [ids] = await _read(redis, [("ZREVRANGE", f"auth:sessions:{subject}", 0, MOST_LISTED - 1)])
            found = await _read(
                redis, [("HGETALL", f"auth:session:{session_id}") for session_id in ids or ()]
            )
        sessions = []
        for session_id, stored in zip(ids or (), found, strict=True):
            with suppress(SessionEnded):
                sessions.append(self._verified(session_id, stored))
        # The index is not authenticated: it may name somebody else's.
        return [session for session in sessions if session.subject == subject]

    async def end(
        self, subject: str, session_id: str | None = None, *, keep: str | None = None
    ) -> list[Revocation]:
        """Ends one session, or all but `keep`; returns those that ended, the newest first, once that is durable."""
        ended = await self._store.run(
            END, durable=True, sub=subject, sid=session_id, keep=keep, retention=self._retention
        )
        return [
            Revocation("session", sid, int(until)) for sid, until in zip(ended[::2], ended[1::2], strict=True)
        ]

    def revocation_of(self, session_id: str) -> Revocation:
        """For a session that has ended before, in the words of the response that says so."""
        return Revocation("session", session_id, math.ceil(time.time() + self._retention / 1000))

    async def wait_durable(self) -> None:
        """Returns once what ended before is durable, whatever was answered then."""
        await self._store.wait_durable()

    async def _live(self, session_id: str) -> Session:
        """Raises SessionEnded, and SessionForged if the record is none of ours."""
        async with self._store.connection() as redis:
            [stored] = await _read(redis, [("HGETALL", f"auth:session:{session_id}")])
        return self._verified(session_id, stored)

    def _verified(self, session_id: str, stored: Mapping[str, str] | None) -> Session:
        if not stored:
            raise SessionEnded(self.revocation_of(session_id))
        fields = {name: value for name, value in stored.items() if name not in NOT_AUTHENTICATED}
        try:
            self._records.verify(session_id, fields, stored.get("mac", ""))
        except RecordForged as forged:
            raise SessionForged(self.revocation_of(session_id)) from forged
        session = Session.read(session_id, stored)
        # Redis has forgotten it by then, unless somebody there has told it not to.
        if session.expires <= time.time():
            raise SessionEnded(self.revocation_of(session_id))
        return session

    def _authenticated(self, session: Session) -> Session:
        return replace(session, mac=self._records.mac(session.id, session.fields()))


async def _read(redis: Any, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    """The replies, None where a key is of another type: that is none of ours, and as good as none."""
    async with redis.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    for index, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                raise reply
            replies[index] = None
    return replies


def _flat(session: Session) -> list[str]:
    """The names and values of its hash, as HSET takes them."""
    return [part for field in session.fields().items() for part in field] + ["mac", session.mac]
