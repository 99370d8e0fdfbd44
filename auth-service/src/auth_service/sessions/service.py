"""Sessions and their refresh tokens: start, rotate, list, end. The store decides every race."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auth_service.sessions.exceptions import RefreshTokenInvalid, RefreshTokenReused, SessionEnded
from auth_service.sessions.models import Lifetimes, Session
from auth_service.sessions.refresh_tokens import RefreshToken, RefreshTokens
from auth_service.store import Script, Store

START = Script("revocations/append.lua", "sessions/ending.lua", "sessions/start.lua")
ROTATE = Script("revocations/append.lua", "sessions/ending.lua", "sessions/rotate.lua")
END = Script("revocations/append.lua", "sessions/ending.lua", "sessions/end.lua")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presented:
    """A proved refresh token and the session that it belongs to; nothing has been changed for it."""

    token: RefreshToken
    session: Session


class Sessions:
    def __init__(
        self, store: Store, refresh_tokens: RefreshTokens, lifetimes: Lifetimes, retention_ms: int
    ) -> None:
        self._store = store
        self._refresh_tokens = refresh_tokens
        self._lifetimes = lifetimes
        self._retention = retention_ms

    async def start(
        self, *, subject: str, client_id: str, scope: str, cv: int, now: int, device: str, address: str
    ) -> tuple[Session, str]:
        """A new session and its first refresh token; a person's oldest session makes room."""
        sid = secrets.token_urlsafe(16)
        stored = await self._store.run(
            START,
            sid=sid,
            sub=subject,
            client_id=client_id,
            scope=scope,
            cv=cv,
            auth_time=now,
            device=device,
            address=address,
            limit=self._lifetimes.per_person,
            idle=self._lifetimes.idle * 1000,
            absolute=self._lifetimes.absolute * 1000,
            retention=self._retention,
        )
        session = Session.read(sid, dict(zip(stored[::2], stored[1::2], strict=True)))
        return session, self._refresh_tokens.write(RefreshToken(sid, 0, 0))

    async def find(self, refresh_token: str) -> Presented:
        """Proves the token and reads its session; changes nothing."""
        token = self._refresh_tokens.read(refresh_token)
        session = await self.get(token.session_id)
        if session is None:
            raise SessionEnded
        return Presented(token, session)

    async def rotate(self, presented: Presented, cv: int) -> tuple[Session, str]:
        """The successor of a proved token; ends the session on reuse."""
        token, session = presented.token, presented.session
        outcome, generation, attempt = await self._store.run(
            ROTATE,
            sid=token.session_id,
            generation=token.generation,
            attempt=token.attempt,
            cv=cv,
            grace=self._lifetimes.replay * 1000,
            idle=self._lifetimes.idle * 1000,
            retention=self._retention,
        )
        match outcome:
            case "reused":
                raise RefreshTokenReused
            case "ended":
                raise SessionEnded
            case "ahead":
                raise RefreshTokenInvalid
        successor = self._refresh_tokens.write(RefreshToken(token.session_id, generation, attempt))
        return replace(session, credentials_version=cv), successor

    async def get(self, session_id: str) -> Session | None:
        async with self._store.answering() as redis:
            stored = await redis.hgetall(f"auth:session:{session_id}")
        return Session.read(session_id, stored) if stored else None

    async def of(self, subject: str) -> Sequence[Session]:
        """A person's live sessions, the newest first."""
        async with self._store.answering() as redis:
            ids = await redis.zrevrange(f"auth:sessions:{subject}", 0, -1)
            async with redis.pipeline(transaction=False) as pipe:
                for session_id in ids:
                    pipe.hgetall(f"auth:session:{session_id}")
                found = await pipe.execute()
        return [
            Session.read(session_id, stored) for session_id, stored in zip(ids, found, strict=True) if stored
        ]

    async def end(self, subject: str, session_id: str | None = None, *, keep: str | None = None) -> int:
        """Ends one session, or all but `keep`; returns how many, once that is durable."""
        ended: int = await self._store.run(
            END, durable=True, sub=subject, sid=session_id, keep=keep, retention=self._retention
        )
        return ended

    async def settle(self) -> None:
        """Returns once what ended before is durable, whatever was answered then."""
        await self._store.settle()
