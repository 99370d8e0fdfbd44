"""Reading the revocation stream: what each answer adds, what it proves, and when to read from the beginning."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from service_kit.jwks import KeyCache
from service_kit.replication import AcknowledgedOffsets, Replication
from service_kit.revocations import Revocation, Revocations

logger = logging.getLogger(__name__)


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
_HELD_MAX = 1_000_000  # revocations: some 200 MB
_LONGEST_ID = 255  # as in a token
_CLOCK_SET_SECONDS = 2.0  # between two rounds; less is within the leeway of every token


@dataclass(frozen=True, slots=True)
class Reply:
    """A primary's answer to one round: the entries after the cursor, and then what vouches for them."""

    began: float  # when the round was asked, Unix seconds
    entries: list[tuple[str, dict[str, str]]]
    epoch: str | None
    last: EntryId | None
    replication: Replication
    clock: float = 0.0  # how far the wall clock was ahead of one that nobody can set, in seconds


class StreamReader:
    """Keeps Revocations in step with the answers, and keys with the epoch; no I/O."""

    def __init__(self, revocations: Revocations, keys: KeyCache, replicas: int = 0) -> None:
        self._revocations = revocations
        self._keys = keys
        self._replicas = replicas
        self._acknowledged = AcknowledgedOffsets()
        self._epoch: str | None = None
        self._history: str | None = None
        self._clock: float | None = None
        self._restarted_for = ""  # why it reads from the beginning, while it does
        self._unguarded = False
        self._full = False  # some were not taken
        self._proved_until = -math.inf
        self.cursor = _BEGINNING
        self.reading_on = False  # whether the last answer reached the stream's end
        self.caught_up = False  # whether it was ever proved that all of it is known

    @property
    def unready(self) -> str | None:
        """None once everything was known, else the reason why not yet."""
        if self.caught_up:
            return None
        if self._full:
            return f"more than {_HELD_MAX} revocations are in the stream"
        if not self.reading_on:
            return "the revocation stream was not read to its end"
        if self._unguarded:
            return "the revocations' Redis does not set min-replicas-to-write, which REDIS_REPLICAS asks for"
        return "no replica of the revocations' Redis has acknowledged the stream's end"

    def take(self, reply: Reply) -> bool:
        """Take in what the answer says; whether to ask again at once."""
        if reply.epoch is None or reply.last is None:
            self._unprove("the epoch or the stream is missing")
            return False
        history = reply.replication.history
        if reply.epoch != self._epoch:
            self._unprove("a new epoch" if self._epoch else "the first epoch")
            self._epoch, self._history = reply.epoch, history
            self._keys.drop_all()
            return True
        if history != self._history:
            self._start_over("the server restarted or another was promoted")
            self._history = history
            return True
        if self._is_clock_set(reply.clock):
            self._unprove("the clock was set")
            return True
        if reply.last < self.cursor:
            self._start_over("the stream ends before what was read of it")
            return True
        for entry_id, fields in reply.entries:
            self._apply(fields, reply.began)
            self.cursor = EntryId.read(entry_id)
        if self._full:
            return self._wait_until_fewer()
        # Nothing came although it was waited for: what lies between cursor and last id was trimmed.
        self.reading_on = not reply.entries or self.cursor >= reply.last
        self._prove(reply)
        return True

    def _wait_until_fewer(self) -> bool:
        """Whoever writes to the stream fills no process: what was passed over is read again when there is room."""
        self._revocations.unprove()
        if len(self._revocations) < _HELD_MAX // 2:
            self._full = False
            self._start_over("there is room for all that it holds")
            return True
        return False

    def _is_clock_set(self, clock: float) -> bool:
        """Whether another time than before decides what has expired: what was forgotten by the one may count again by
        the other, and the stream still has it."""
        before, self._clock = self._clock, clock
        return before is not None and abs(clock - before) > _CLOCK_SET_SECONDS

    def _prove(self, reply: Reply) -> None:
        began: float | None = reply.began if self.reading_on else None
        if self._replicas:
            began = self._prove_by_replicas(reply)
        if began is not None:
            # The stream keeps a key's revocation for longer than a key set may be held, but not for as long as anybody
            # may be cut off.
            if began - self._proved_until > self._keys.lifetime:
                self._keys.drop_outdated()
            self._proved_until = began
            self._revocations.prove(began)
            self._restarted_for = ""
            self.caught_up = True

    def _prove_by_replicas(self, reply: Reply) -> float | None:
        replication = reply.replication
        if replication.counts_replicas is self._unguarded:
            self._unguarded = not replication.counts_replicas
            if self._unguarded:
                logger.warning("revocations cannot be proved: the server does not set min-replicas-to-write")
        if self._unguarded:
            self._acknowledged.clear()
            return None
        began = self._acknowledged.prove(replication.acknowledged)
        if self.reading_on:
            self._acknowledged.note(reply.began, replication.offset)
        return began

    def _unprove(self, why: str) -> None:
        self._start_over(why)
        self._revocations.unprove()

    def _start_over(self, why: str) -> None:
        if why != self._restarted_for:  # not once a round while it stays so
            # At a start there is nothing yet that could have been lost.
            level = logging.INFO if self._epoch is None else logging.WARNING
            logger.log(level, "revocations are read from the beginning: %s", why)
            self._restarted_for = why
        self._acknowledged.clear()
        self.cursor = _BEGINNING
        self.reading_on = False

    def _apply(self, fields: Mapping[str, str], now: float) -> None:
        try:
            revocation = _read(fields)
        except (KeyError, ValueError):
            # Malformed, or of a kind that is newer than this code.
            logger.warning(
                "an entry of the revocation stream is not understood and passed over: kind=%r",
                fields.get("kind"),
            )
            return
        if revocation is None or revocation.until <= now:
            return
        furthest = self._revocations.furthest(now)
        if revocation.until > furthest:  # else whoever writes to the stream could have it held for ever
            revocation = replace(revocation, until=furthest)
        if revocation.kind == "key":
            self._keys.drop(revocation.value)
        if len(self._revocations) < _HELD_MAX:
            self._revocations.add(revocation)
        elif not self._full:
            self._full = True
            logger.error("more than %d revocations: no token is accepted until there are fewer", _HELD_MAX)


def _read(fields: Mapping[str, str]) -> Revocation | None:
    """KeyError or ValueError if malformed; None for an entry that revokes nothing."""
    match fields["kind"]:
        case "session":
            return Revocation("session", _id(fields["sid"]), int(fields["until"]))
        case "subject":
            return Revocation("subject", _id(fields["sub"]), int(fields["until"]), int(fields["cv"]))
        case "key":
            return Revocation("key", _id(fields["kid"]), int(fields["until"]))
        case "start":
            return None
        case _:
            raise ValueError("unknown kind")


def _id(text: str) -> str:
    if len(text) > _LONGEST_ID:
        raise ValueError("no token has an id of this length")
    return text
