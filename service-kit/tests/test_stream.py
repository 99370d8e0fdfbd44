"""What a follower claims to know, whatever becomes of the servers that answer it; no I/O, no clock."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service_kit import stream
from service_kit.jwks import KeyCache
from service_kit.replication import AcknowledgedOffsets, Replication
from service_kit.revocations import Revocations
from service_kit.stream import EntryId, Reply, StreamReader
from service_kit.testing import TestIssuer

FIVE = EntryId(5, 0)


class Reading:
    """A reader, and the answers of a server with one start entry."""

    def __init__(self, issuer: TestIssuer, replicas: int) -> None:
        self.keys = KeyCache(issuer.fetch_keys)
        self.revocations = Revocations()
        self.reader = StreamReader(self.revocations, self.keys, replicas)
        self.now = 1000.0

    def take(
        self,
        *sessions: str,
        epoch: str | None = "e1",
        last: EntryId | None = FIVE,
        history: str = "h1",
        offset: int = 100,
        acknowledged: int = 100,
        counts_replicas: bool = True,
        clock: float = 0.0,
    ) -> None:
        self.now += 1
        until = str(int(self.now) + 400)
        entries = [
            (f"{n}-0", {"kind": "session", "sid": sid, "until": until}) for n, sid in enumerate(sessions, 1)
        ]
        replication = Replication(True, history, offset, acknowledged, counts_replicas)
        self.reader.take(Reply(self.now, entries, epoch, last, replication, clock))

    def unready(self) -> str | None:
        return self.reader.unready

    @property
    def proved(self) -> float:
        """Until when everything is claimed to be known; -inf if nothing is."""
        return self.now - self.revocations.staleness(self.now)


@pytest.fixture
def reading(issuer: TestIssuer) -> Callable[[int], Reading]:
    return lambda replicas: Reading(issuer, replicas)


async def test_what_is_said_to_end_far_off_is_held_as_long_as_a_token_can_live(
    reading: Callable[[int], Reading],
) -> None:
    forged = reading(0)
    forged.take()
    for kind, name in (("session", "sid"), ("subject", "sub"), ("key", "kid")):
        forged.now += 1
        fields = {"kind": kind, name: f"a-{kind}", "cv": "9", "until": "9" * 30}
        replication = Replication(True, "h1", 100, 100, counts_replicas=True)
        forged.reader.take(Reply(forged.now, [("5-0", fields)], "e1", FIVE, replication))
    assert len(forged.revocations) == 3
    forged.revocations.expire(forged.now + 3600)
    assert len(forged.revocations) == 3
    forged.revocations.expire(forged.now + 3660 + 300)
    assert len(forged.revocations) == 0


async def test_more_than_can_be_held_is_not_held_and_nobody_is_let_in_until_it_is_less(
    reading: Callable[[int], Reading], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has the password of the stream's writer would end every process that follows it."""
    monkeypatch.setattr(stream, "_HELD_MAX", 10)
    full = reading(0)
    full.take()
    full.take(*(f"s{number}" for number in range(25)))
    assert len(full.revocations) == 10
    full.take(last=EntryId(25, 0))
    assert full.proved == -math.inf
    assert "more than 10" in (full.unready() or "")
    assert caplog.text.count("no token is accepted") == 1
    full.now += 500
    full.revocations.expire(full.now)
    full.take(last=EntryId(25, 0))
    full.take("s0", "s1", last=EntryId(2, 0))
    assert full.unready() is None
    assert full.proved == full.now
    assert len(full.revocations) == 2


async def test_an_id_that_no_token_has_is_not_held(reading: Callable[[int], Reading]) -> None:
    forged = reading(0)
    forged.take()
    forged.take("x" * 10_000_000, last=EntryId(1, 0))
    assert len(forged.revocations) == 0
    assert forged.unready() is None


async def test_one_server_proves_what_was_before_the_question_and_no_more(
    reading: Callable[[int], Reading],
) -> None:
    alone = reading(0)
    alone.take()  # the first epoch: read from the beginning
    assert alone.unready() == "the revocation stream was not read to its end"
    alone.take("s")
    assert alone.unready() is not None, "there is more"
    alone.take("t", last=EntryId(1, 0))
    assert alone.unready() is None
    assert alone.proved == alone.now


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
async def test_what_was_forgotten_by_a_wrong_clock_is_read_again_by_the_right_one(
    reading: Callable[[int], Reading], ahead: float
) -> None:
    """Else a session that has ended would be let in for as long as its token lives."""
    following = reading(0)
    following.take()
    following.take("s", last=EntryId(1, 0))
    assert following.revocations.staleness(following.now) == 0
    following.now += ahead
    following.take(clock=ahead)
    assert following.revocations.staleness(following.now) == math.inf, "nothing is claimed meanwhile"
    following.take("s", last=EntryId(1, 0), clock=ahead)
    following.revocations.expire(following.now + 5000 - ahead)
    assert len(following.revocations) == 0
    following.now -= ahead
    following.take(last=EntryId(1, 0))
    assert following.revocations.staleness(following.now) == math.inf
    following.take("s", last=EntryId(1, 0))
    assert len(following.revocations) == 1
    assert following.revocations.staleness(following.now) == 0


async def test_a_clock_that_is_slewed_is_no_other_clock(reading: Callable[[int], Reading]) -> None:
    following = reading(0)
    following.take()
    for tenth in range(100):
        following.take(last=EntryId(0, 0), clock=tenth / 10)
    assert following.proved == following.now


async def test_a_first_start_warns_of_nothing_and_a_loss_warns(
    reading: Callable[[int], Reading], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service_kit.stream")
    starting = reading(0)
    starting.take(epoch=None)  # auth-service has not made it yet
    starting.take()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    starting.take(epoch=None)
    starting.take(epoch="e2")
    assert [record.levelname for record in caplog.records[2:]] == ["WARNING", "WARNING"]


async def test_with_replicas_a_round_is_proved_by_a_later_acknowledgement_of_more_than_its_offset(
    reading: Callable[[int], Reading],
) -> None:
    replicated = reading(1)
    replicated.take()
    for acknowledged in (99, 100, 100):  # as a frozen server says it, too: all that was sent before it froze
        replicated.take(acknowledged=acknowledged)
        assert (
            replicated.unready() == "no replica of the revocations' Redis has acknowledged the stream's end"
        )
    replicated.take(offset=130, acknowledged=101)
    assert replicated.proved == replicated.now - 1
    assert replicated.unready() is None
    replicated.take(offset=140, acknowledged=-1)
    replicated.take(offset=150, acknowledged=131)
    assert replicated.proved == replicated.now - 2, "the round before it is not proved"


@pytest.mark.parametrize("replicas", [0, 2])
async def test_what_was_trimmed_before_it_was_read_is_not_waited_for(
    reading: Callable[[int], Reading], replicas: int
) -> None:
    following = reading(replicas)
    for offset in (100, 110, 120):
        following.take(last=EntryId(9, 9), offset=offset, acknowledged=offset)
    assert following.unready() is None
    assert following.reader.cursor < EntryId(9, 9)


async def test_a_server_that_writes_without_replicas_is_no_proof_and_readiness_says_why(
    reading: Callable[[int], Reading],
) -> None:
    replicated = reading(2)
    for offset in (100, 110, 120):
        replicated.take(offset=offset, acknowledged=offset, counts_replicas=False)
    assert "min-replicas-to-write" in str(replicated.unready())
    for offset in (130, 140):
        replicated.take(offset=offset, acknowledged=offset)
    assert replicated.unready() is None


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("another", [{"history": "h2"}, {"last": EntryId(0, 7)}])
async def test_another_history_is_read_from_the_beginning_and_nobody_is_turned_away(
    reading: Callable[[int], Reading], replicas: int, another: dict[str, str]
) -> None:
    following = reading(replicas)
    following.take()
    following.take("s", last=EntryId(1, 0), offset=100)
    following.take(last=EntryId(1, 0), offset=110, acknowledged=110)
    proved = following.proved
    assert proved >= following.now - 1
    following.take(**another)  # type: ignore[arg-type] # one or the other
    assert following.reader.cursor == EntryId(0, 0)
    assert following.proved == proved, "neither unproved nor proved"
    answer = {"last": EntryId(1, 0)} | another
    following.take(**answer, offset=200, acknowledged=150)  # type: ignore[arg-type]
    following.take(**answer, offset=300, acknowledged=250)  # type: ignore[arg-type]
    assert following.proved >= following.now - 1
    assert len(following.revocations) == 1


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("answer", [{"epoch": None}, {"epoch": "e2"}, {"last": None}])
async def test_an_absent_or_new_epoch_unproves_at_once(
    reading: Callable[[int], Reading], replicas: int, answer: dict[str, str | None]
) -> None:
    following = reading(replicas)
    for offset in (100, 110, 120):
        following.take(offset=offset, acknowledged=offset)
    await following.keys.refresh()
    assert following.proved > 0
    following.take(**answer)  # type: ignore[arg-type] # one of them
    assert following.proved < 0
    assert following.keys.loaded is (answer.get("epoch", "e1") != "e2"), "stale keys never cross an epoch"


@pytest.mark.parametrize(
    ("unheard", "unconfirmed", "held"), [(400, 400, False), (400, 200, True), (1, 400, True)]
)
async def test_who_was_cut_off_from_stream_and_issuer_for_long_asks_for_the_keys_anew(
    reading: Callable[[int], Reading],
    issuer: TestIssuer,
    monkeypatch: pytest.MonkeyPatch,
    unheard: int,
    unconfirmed: int,
    held: bool,
) -> None:
    server = reading(0)
    server.take()
    server.take(last=EntryId(0, 0))
    await server.keys.refresh()
    server.take(last=EntryId(0, 0))
    assert server.keys.find(issuer.kid)
    assert server.unready() is None
    began = time.monotonic()
    monkeypatch.setattr("service_kit.jwks.time.monotonic", lambda: began + unconfirmed)
    server.now += unheard
    server.take(last=EntryId(9, 0))  # what was between has been trimmed
    assert (server.keys.find(issuer.kid) is not None) is held


def test_missing_members_prove_nothing() -> None:
    assert Replication.read({"role": "slave", "slave_repl_offset": 7}) == (False, "", 0, -1, False)
    lagging = {"ip": "::1", "state": "wait_bgsave", "offset": 9}
    assert Replication.read({"role": "master", "slave0": lagging}).acknowledged == -1


def test_new_rounds_never_postpone_the_proof_of_an_old_one() -> None:
    acknowledged = AcknowledgedOffsets()
    for began in range(1000):
        acknowledged.note(began, 10 * began)
    assert acknowledged.prove(1) == 0
    acknowledged.note(1000, 10_000)
    assert acknowledged.prove(9_990) is None
    assert acknowledged.prove(10_001) == 1000


@dataclass
class Server:
    """A Redis of the model: a stream, a history, and what its replicas said that it has read."""

    entries: dict[int, tuple[str, int]] = field(default_factory=dict)  # id -> sid and until
    last: int = 1
    offset: int = 1
    history: int = 0
    master: "Server | None" = None  # whom it copies, if it is a replica
    acknowledged: dict[int, int] = field(default_factory=dict)  # of each replica by its name
    sent: list[tuple[int, int]] = field(default_factory=list)  # acknowledgements in its socket, not read yet


async def no_keys() -> dict[str, Any]:
    return {"keys": []}


def pick(servers: list[Server], which: int) -> Server:
    return servers[which % len(servers)]


@dataclass
class Write:
    """A revocation that nobody has acknowledged yet."""

    sid: str
    server: Server
    history: int
    offset: int


EVENTS = (
    "time_passes",
    "a_session_is_revoked",
    "a_session_is_revoked",
    "a_primary_pings",
    "a_primary_trims",
    "a_replica_copies",
    "a_replica_copies",
    "a_primary_reads_its_sockets",
    "a_failover_promotes_who_has_everything",
    "those_left_behind_are_brought_back",
    "the_follower_asks",
    "and_is_answered",
    "two_whole_rounds",
    "two_whole_rounds",
    "two_whole_rounds",
)


class Failovers(RuleBasedStateMachine):
    """Servers that are cut off, promoted, frozen and brought back; a follower that asks any of them.

    It is assumed that a failover loses nothing acknowledged; that is the writer's business. Whatever the order of
    events, what was acknowledged before the moment up to which the follower claims to know everything is known to it.
    """

    @initialize(replicas=st.sampled_from([1, 2]))
    def begin(self, replicas: int) -> None:
        self.replicas = replicas
        self.servers = [Server() for _ in range(1 + replicas)]
        for each in self.servers[1:]:
            each.master = self.servers[0]
        self.current = self.servers[0]  # which a failover has made primary last
        self.histories = 0
        self.now = 1000
        self.revocations = Revocations()
        self.reader = StreamReader(self.revocations, KeyCache(no_keys), replicas)
        self.waiting: list[Write] = []
        self.ended: dict[str, tuple[float, int]] = {}  # acknowledged: sid -> when, and until when it matters
        self.asked: tuple[Server, float, list[tuple[str, dict[str, str]]]] | None = None
        self.untils: dict[str, int] = {}

    @property
    def primaries(self) -> list[Server]:
        """Who takes itself for one: the current one, and those left behind."""
        return [each for each in self.servers if each.master is None]

    @rule(event=st.sampled_from(EVENTS), which=st.integers(0, 5))
    def happens(self, event: str, which: int) -> None:
        """One rule for all events: Hypothesis leaves out rules at random, and most stories need all of these."""
        getattr(self, event)(which)

    def time_passes(self, which: int) -> None:
        self.now += 1 + which

    def a_session_is_revoked(self, which: int) -> None:
        server = pick(self.primaries, which)
        sid, lives = f"s{len(self.untils)}", 3 if which == 5 else 400
        self.untils[sid] = self.now + lives
        server.last += 1 + which % 3
        server.offset += 1
        server.entries[server.last] = (sid, self.now + lives)
        self.waiting.append(Write(sid, server, server.history, server.offset))
        self.writers_are_answered()

    def a_primary_pings(self, which: int) -> None:
        pick(self.primaries, which).offset += 1

    def a_primary_trims(self, which: int) -> None:
        server = pick(self.primaries, which)
        server.entries = {key: entry for key, entry in server.entries.items() if entry[1] > self.now}

    def a_replica_copies(self, which: int) -> None:
        """And acknowledges, which its primary may read later."""
        if copying := [each for each in self.servers if each.master in self.primaries]:
            replica = pick(copying, which)
            master = replica.master
            assert master is not None
            replica.entries, replica.last = dict(master.entries), master.last
            replica.offset, replica.history = master.offset, master.history
            master.sent.append((self.servers.index(replica), replica.offset))
            if which < 4:
                self.read_sockets(master)

    def a_primary_reads_its_sockets(self, which: int) -> None:
        self.read_sockets(pick(self.primaries, which))

    def read_sockets(self, server: Server) -> None:
        server.acknowledged |= dict(server.sent)
        server.sent.clear()
        self.writers_are_answered()

    def writers_are_answered(self) -> None:
        for write in list(self.waiting):
            server = write.server
            same = server.history == write.history
            durable = same and any(offset >= write.offset for offset in server.acknowledged.values())
            # A single replica that was promoted has nobody to wait for until its operator brings the other back.
            alone = self.replicas == 1 and same and server is self.current and server.history > 0
            if durable or alone:
                self.ended[write.sid] = (self.now, self.untils[write.sid])
                self.waiting.remove(write)

    def a_failover_promotes_who_has_everything(self, which: int) -> None:
        """The former primary is told nothing, and the other replica follows the new one."""
        # What a replica has said that it has is not lost, though the primary has not read it yet.
        said = {
            write.sid
            for write in self.waiting
            if any(offset >= write.offset for _, offset in write.server.sent)
        }
        everything = {sid for sid in {*self.ended, *said} if self.untils[sid] > self.now}
        able = [
            each
            for each in self.servers
            if each.master is self.current and everything <= {sid for sid, _ in each.entries.values()}
        ]
        if able:
            chosen = pick(able, which)
            self.histories += 1
            chosen.master, chosen.history, chosen.acknowledged, chosen.sent = None, self.histories, {}, []
            for other in self.servers:
                if other.master is self.current:
                    other.master = chosen
            self.current = chosen
            self.now += 1

    def those_left_behind_are_brought_back(self, _: int) -> None:
        for each in self.primaries:
            if each is not self.current:
                each.master, each.acknowledged, each.sent = self.current, {}, []

    def the_follower_asks(self, which: int) -> None:
        server = pick(self.primaries, which)
        cursor = self.reader.cursor.milliseconds
        entries = [
            (f"{key}-0", {"kind": "session", "sid": sid, "until": str(until)})
            for key, (sid, until) in sorted(server.entries.items())
            if key > cursor
        ]
        self.asked = server, self.now, entries[:1]  # as COUNT bounds them

    def and_is_answered(self, _: int) -> None:
        """The rest of a round comes after its entries, and may come much later."""
        if self.asked is None:
            return
        server, began, entries = self.asked
        self.asked = None
        if server.master is None:
            acknowledged = max(server.acknowledged.values(), default=-1)
            replication = Replication(True, str(server.history), server.offset, acknowledged, True)
            self.reader.take(Reply(began, entries, "e", EntryId(server.last, 0), replication))

    def two_whole_rounds(self, which: int) -> None:
        for _ in range(2):
            self.the_follower_asks(which)
            self.and_is_answered(which)
            self.now += 1

    @invariant()
    def what_it_claims_to_know_it_knows(self) -> None:
        if not hasattr(self, "ended"):
            return
        proved = self.now - self.revocations.staleness(self.now)
        for sid, (ended, until) in self.ended.items():
            if ended < proved and until > self.now:
                assert sid in self.revocations._sessions, (
                    f"{sid} ended at {ended}, all is known until {proved}"
                )


def test_a_write_that_a_replica_has_acknowledged_outlives_a_failover_before_the_primary_reads_it() -> None:
    story = Failovers()
    story.begin(replicas=2)
    for event, which in (
        ("a_session_is_revoked", 0),
        ("a_replica_copies", 4),
        ("a_failover_promotes_who_has_everything", 1),
        ("a_primary_reads_its_sockets", 0),
        ("those_left_behind_are_brought_back", 0),
        ("two_whole_rounds", 0),
        ("a_session_is_revoked", 0),
        ("a_replica_copies", 0),
        ("two_whole_rounds", 0),
    ):
        story.happens(event, which)
        story.what_it_claims_to_know_it_knows()
    assert "s0" in story.ended


TestFailovers = Failovers.TestCase
TestFailovers.settings = settings(max_examples=600, stateful_step_count=50, deadline=None)
