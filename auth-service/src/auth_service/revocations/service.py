"""The writer of the revocation stream: what ended early, until the last token it concerns has expired.

The stream `auth:revocations` is a contract (contract/revocations.md). Sessions and keys that end are written
by the script that ends them; here is what ends without either.
"""

from auth_service.store import Script, Store
from service_kit.revocations import Revocation

SESSION = Script("revocations/append.lua", "revocations/session.lua")
SUBJECT = Script("revocations/append.lua", "revocations/subject.lua")


class Revocations:
    def __init__(self, store: Store, retention_ms: int) -> None:
        self._store = store
        self._retention = retention_ms

    async def revoke_session(self, session_id: str) -> Revocation:
        """For a client's own token, whose `sid` has no stored session."""
        until = await self._store.run(SESSION, durable=True, sid=session_id, retention=self._retention)
        return Revocation("session", session_id, int(until))

    async def revoke_subject(self, subject: str, cv: int, sessions_cv: int) -> int:
        """Refuses tokens older than `cv`, ends sessions older than `sessions_cv`; how many sessions ended."""
        ended: int = await self._store.run(
            SUBJECT, durable=True, sub=subject, cv=cv, sessions_cv=sessions_cv, retention=self._retention
        )
        return ended
