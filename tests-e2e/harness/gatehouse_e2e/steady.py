"""The steady load that every fault happens under, and a fault in it: begun, mended, and given time to settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import httpx

from .api import Person, Refused
from .evidence import Evidence
from .history import Exchange, History
from .load import Check, Load, Read, ReadRefused, Refresh, Rename, Share, SignIn
from .people import People
from .waiting import NeverHappened, until

# The API as consumers use it; what asks auth-service itself is named auth:*.
API = ("read", "write")
SIGNING_IN = ("auth:sign-in", "auth:refresh")
CALM_SECONDS = 1.5
# Recovered: everybody was served for so long. Each operation of the load comes at least twice in it.
SETTLED_SECONDS = 2.1
RECOVERY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Fault:
    """When it began and when it was mended, in the history's seconds, and everything seen meanwhile and after."""

    seen: History
    began: float
    mending: float
    mended: float

    def failures(self, *operations: str, after: float = 0) -> list[Exchange]:
        """What failed while the fault was in force, from `after` seconds into it."""
        return self.seen.failures(*operations, since=self.began + after, before=self.mended)

    def slowest(self, *operations: str, after: float = 0) -> float:
        return self.seen.slowest(*operations, since=self.began + after, before=self.mended)

    def back_after(self, *operations: str) -> float:
        return self.seen.back_after(*operations, since=self.mended)


def added(share: float, faults: Sequence[Fault], controls: Sequence[Fault], *operations: str) -> float:
    """By how much the slowest of that share took longer under a fault than under the control before it.

    A control is the same done to a part that nobody asks: killing a container costs the machine tens of milliseconds
    whoever is in it. With it nothing need be left out: all counts from before the deed until it is mended.

    It is the median of the pairs, not the worst: two bystanders killed one after the other differ by up to 60 ms, by
    what docker does meanwhile, whatever the system does.
    """

    def waits(suffered: Fault) -> float:
        return suffered.seen.percentile(share, *operations, since=suffered.began, before=suffered.mending)

    return median(waits(fault) - waits(control) for fault, control in zip(faults, controls, strict=True))


def many_reads(people: People) -> tuple[Share, Share]:
    """So many that the slowest hundredth, which is judged by milliseconds, is more than the few that met a hiccup.

    Each of these people reads less often than a caller's allowance is filled again.
    """
    readers = [people.signed_in() for _ in range(16)]
    return Share(100, Read(readers)), Share(0.2, Refresh(readers))  # what is measured may outlast a token


def suffer(
    seen: History,
    name: str,
    begin: Callable[[], object],
    mend: Callable[[], object],
    *,
    lasts: float = 4,
) -> Fault:
    """Calm, the fault, the mending, and as long as it takes until all is well again."""
    time.sleep(CALM_SECONDS)
    with seen.span(name):
        began = seen.now()
        begin()
        time.sleep(lasts)
        mending = seen.now()
        mend()
        mended = seen.now()
    time.sleep(SETTLED_SECONDS)
    while not seen.calm(SETTLED_SECONDS) and seen.now() - mended < RECOVERY_SECONDS:
        time.sleep(0.1)
    return Fault(seen, began, mending, mended)


class Steady:
    """People who read, write, refresh and sign in at a steady rate, and some whose tokens must be refused."""

    def __init__(self, url: str, people: People) -> None:
        self._url = url
        self._people = people
        self._crowd = [people.signed_in() for _ in range(8)]
        self._gone = [people.registered() for _ in range(2)]
        # A person keeps a bounded number of sessions: who signs in all the time would push out the one that reads.
        self._arriving = [people.registered() for _ in range(4)]

    @contextmanager
    def running(
        self, evidence: Evidence, title: str, *more: Share, deadline: float = 10
    ) -> Iterator[History]:
        """The load while the block runs; its invariants, and that no acknowledged write is lost, are judged after."""
        self._sign_in_again()
        renames = Rename(self._crowd)
        load = Load(self._url, [*self._shares(renames), *more], deadline)
        evidence.histories.append((title, load.history))
        with load.running() as seen:
            yield seen
        evidence.complaints += self._lost(renames)

    def _shares(self, renames: Rename) -> list[Share]:
        crowd, gone = self._crowd, self._gone
        forged = [replace(one, tokens=replace(one.tokens, access_token=_forged(one))) for one in crowd]
        return [
            Share(20, Read(crowd)),
            Share(5, Check(crowd)),
            Share(2, Refresh(crowd)),
            Share(1, SignIn(self._arriving)),
            Share(2, renames),
            Share(2, ReadRefused("session ended", gone)),
            Share(2, ReadRefused("forged", forged)),
        ]

    def _sign_in_again(self) -> None:
        """Tokens live for minutes, and the fault before this one may have ended every session."""
        for person in self._crowd:
            until(partial(self._signed_in, person), RECOVERY_SECONDS, "people sign in again")
        for person in self._gone:
            self._people.sign_in(person)
            api = self._people.api(person)
            api.sign_out(person.tokens.refresh_token)
            until(
                partial(self._is_out, person),
                RECOVERY_SECONDS,
                "an ended session refused",
            )

    def _signed_in(self, person: Person) -> bool:
        """Whether the person is served, and under which name, with a new token; whose session has ended signs in."""
        api = self._people.api(person)
        try:
            try:
                person.tokens = api.refresh(person.tokens.refresh_token)
            except Refused as refused:
                if refused.error != "invalid_grant":
                    raise
                person.tokens = api.sign_in(person.email, person.password)
            person.name = str(api.me(person.tokens).json()["name"])
        except Refused as refused:
            if refused.status in (502, 503, 504, 429):
                return False
            raise
        except httpx.TransportError:
            return False
        return True

    def _is_out(self, person: Person) -> bool:
        answer = self._people.api(person).http.get("/v1/users/me", headers=person.tokens.bearer)
        return answer.status_code == 401

    def _lost(self, renames: Rename) -> list[str]:
        for person in self._crowd:
            try:
                until(
                    partial(self._signed_in, person),
                    RECOVERY_SECONDS,
                    f"{person.id} served again",
                )
            except NeverHappened as never:
                return [f"no recovery without a hand: {never}"]
            renames.judge(person, person.name)
        return [f"an acknowledged write is gone: {line}" for line in renames.lost]


def _forged(person: Person) -> str:
    """The person's token with another well-formed signature: its last character carries bits that must stay."""
    signed, _, signature = person.tokens.access_token.rpartition(".")
    return f"{signed}.{signature[-2::-1]}{signature[-1]}"
