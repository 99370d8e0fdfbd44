"""What ended early: held in memory until it expires, asked on every request."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Counter

from service_kit.tokens import Caller, CannotVerify, TokenRefused

_EXPIRED_AT_ONCE = 2_000
# Beyond the longest life of a token: clocks differ, and their writer adds the deadline of a request.
_FURTHER_SECONDS = 300.0

Kind = Literal["session", "subject", "key"]

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

    def __init__(self, ceiling: float = 60.0, longest_life: float = 3660.0) -> None:
        """`longest_life`: seconds for which a token can be accepted, its leeway included."""
        self._ceiling = ceiling
        self._furthest = longest_life + _FURTHER_SECONDS
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
            raise TokenRefused("session_revoked")
        if caller.key_id in self._keys:
            raise TokenRefused("key_revoked")
        version = caller.credentials_version
        if version is not None and version < self._versions.get(caller.subject, 0):
            raise TokenRefused("credentials_changed")

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

    def furthest(self, now: float) -> int:
        """The latest `until` that means anything: no token that was issued by now is accepted then."""
        return int(now + self._furthest)

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
