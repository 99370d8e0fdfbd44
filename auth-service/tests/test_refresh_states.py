"""The refresh contract as a state machine: whatever happens, in any order, against a real Redis over HTTP."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Service, make_settings, started
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from people import People, serve_people
from redis.asyncio import Redis

from auth_service.keys.exceptions import KeysUnavailable
from auth_service.sessions.refresh_tokens import RefreshToken

Pair = tuple[int, int]
ACTORS = st.sampled_from(["owner", "thief"])
LONG_AGO = st.sampled_from([11, 60, 3600])  # seconds, each longer than a successor is handed out again


class Signing:
    """The service's own signing, which fails when it is told to."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def for_person(self, *arguments: Any) -> str:
        if self.fails:
            raise KeysUnavailable
        return str(self._real.for_person(*arguments))


@dataclass
class RefreshModel:
    """A running service, and everything around it that can fail."""

    runner: asyncio.Runner
    service: Service
    people: People
    redis: Any
    signing: Signing

    def refresh(self, token: str) -> httpx.Response:
        return self.runner.run(self.service.refresh(token))

    def stored(self, session: str) -> dict[str, str]:
        return dict(self.runner.run(self.redis.hgetall(f"auth:session:{session}")))

    def all_stored(self, chains: "list[Chain]") -> list[dict[str, str]]:
        pipe = self.redis.pipeline(transaction=False)
        for chain in chains:
            pipe.hgetall(f"auth:session:{chain.id}")
        return list(self.runner.run(pipe.execute()))


@pytest.fixture
def model(shared_redis: str, tmp_path: Path) -> Iterator[RefreshModel]:
    async def start() -> RefreshModel:
        people = await stack.enter_async_context(serve_people())
        redis = await stack.enter_async_context(Redis.from_url(shared_redis, decode_responses=True))
        await redis.flushall()
        # Signing in is only how sessions begin here; and nobody who is pushed out by the fifty-first is modelled.
        limits = {"sign_in_account_per_minute": 6000, "sign_in_address_per_minute": 6000}
        every = make_settings(shared_redis, people.url, tmp_path, sessions_per_person=1000, **limits)
        service = await stack.enter_async_context(started(every))
        tokens: Any = service.parts.tokens
        tokens._access = Signing(tokens._access)
        return RefreshModel(runner, service, people, redis, tokens._access)

    async def stop() -> None:
        await stack.aclose()

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        yield runner.run(start())
        runner.run(stop())


@dataclass
class Chain:
    """What the contract says about one session, told apart from how the service keeps it."""

    id: str
    access_token: str
    texts: dict[Pair, str]
    current: Pair = (0, 0)
    parent: Pair | None = None
    recent: bool = True
    alive: bool = True
    newest: dict[str, Pair] = field(default_factory=lambda: {"owner": (0, 0)})

    def expected(self, pair: Pair) -> tuple[str, Pair]:
        """What presenting a genuine pair must lead to: the outcome, and the pair handed out."""
        generation, attempt = self.current
        if not self.alive:
            return "session_ended", pair
        if pair == self.current:
            return "new", (generation + 1, 0)
        if pair == self.parent:
            return ("same", self.current) if self.recent else ("new", (generation, attempt + 1))
        return "refresh_token_reused", pair

    def moved(self, pair: Pair, successor: Pair) -> None:
        self.parent = pair if pair == self.current else self.parent
        self.current, self.recent = successor, True


class RefreshContract(RuleBasedStateMachine):
    """One person, their sessions, and a thief who copies tokens."""

    def __init__(self, model: RefreshModel) -> None:
        super().__init__()
        self.model = model
        self.chains: list[Chain] = []

    @initialize()
    def begin(self) -> None:
        self.model.people.reset()
        self.sign_in()

    @rule()
    @precondition(lambda self: len(self.chains) < 3 and not any(chain.alive for chain in self.chains[1:]))
    def sign_in(self) -> None:
        grant = self.model.runner.run(self.model.service.sign_in())
        session = grant["refresh_token"].split(".")[0]
        self.chains.append(Chain(session, grant["access_token"], {(0, 0): grant["refresh_token"]}))

    @rule(data=st.data())
    def steal(self, data: st.DataObject) -> None:
        chain = self.any_chain(data)
        chain.newest["thief"] = data.draw(st.sampled_from(sorted(chain.texts)))

    @rule(data=st.data(), actor=ACTORS, lost=st.booleans())
    def refresh(self, data: st.DataObject, actor: str, lost: bool) -> None:
        chain = self.any_chain(data)
        pair = chain.newest.get(actor)
        if pair is not None:
            got = self.present(chain, pair)
            if got is not None and not lost:
                chain.newest[actor] = got

    @rule(data=st.data(), seconds=LONG_AGO)
    def lose_the_answer_and_retry_late(self, data: st.DataObject, seconds: int) -> None:
        chain = self.any_chain(data)
        pair = chain.current
        self.present(chain, pair)
        self.age(chain, seconds)
        chain.newest["owner"] = self.present(chain, pair) or pair

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        chain = self.any_chain(data)
        self.present(chain, data.draw(st.sampled_from(sorted(chain.texts))))

    @rule(data=st.data(), seconds=LONG_AGO)
    def let_time_pass(self, data: st.DataObject, seconds: int) -> None:
        self.age(self.any_chain(data), seconds)

    @rule(
        data=st.data(),
        pair=st.tuples(st.integers(0, 9), st.integers(0, 9)),
        mac=st.text("Aa0_-", min_size=43, max_size=43),
    )
    def forge(self, data: st.DataObject, pair: Pair, mac: str) -> None:
        chain = self.any_chain(data)
        before = self.model.stored(chain.id)
        response = self.model.refresh(f"{chain.id}.{pair[0]}.{pair[1]}.{mac}")
        assert (response.status_code, response.json()["code"]) == (400, "refresh_token_invalid")
        assert self.model.stored(chain.id) == before

    @rule(data=st.data())
    def refresh_while_user_service_is_away(self, data: st.DataObject) -> None:
        chain = self.any_chain(data)
        before = self.model.stored(chain.id)
        self.model.people.status = 500
        response = self.model.refresh(chain.texts[chain.current])
        self.model.people.status = None
        assert response.status_code == (503 if chain.alive else 400)
        assert self.model.stored(chain.id) == before

    @rule(data=st.data())
    def refresh_while_signing_fails(self, data: st.DataObject) -> None:
        """The client sees a failure after the rotation: an answer lost, as far as it can tell."""
        chain = self.any_chain(data)
        if chain.alive:
            self.model.signing.fails = True
            response = self.model.refresh(chain.texts[chain.current])
            self.model.signing.fails = False
            assert response.status_code == 503
            # It never had this successor, and neither has anybody else.
            chain.moved(chain.current, (chain.current[0] + 1, 0))
            chain.texts[chain.current] = self.written(chain.id, chain.current)

    @rule(data=st.data())
    def refresh_as_the_connections_to_redis_break(self, data: st.DataObject) -> None:
        self.model.runner.run(
            self.model.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        )
        chain = self.any_chain(data)
        self.present(chain, chain.current)

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        chain = self.any_chain(data)
        self.model.runner.run(self.model.redis.pexpire(f"auth:session:{chain.id}", 0))
        chain.alive = False

    @rule(data=st.data(), by=st.sampled_from(["refresh token", "access token"]))
    def sign_out(self, data: st.DataObject, by: str) -> None:
        chain = self.any_chain(data)
        token = chain.texts[chain.current] if by == "refresh token" else chain.access_token
        response = self.model.runner.run(
            self.model.service.public.post("/auth/revoke", data={"token": token})
        )
        assert response.status_code == 200
        chain.alive = False

    @rule()
    def change_the_password(self) -> None:
        self.model.people.change("ada@example.com")
        for chain in self.chains:
            if chain.alive:  # no event came: the next refresh finds out by itself
                response = self.model.refresh(chain.texts[chain.current])
                assert response.json()["code"] == "credentials_changed"
                chain.alive = False

    @rule(data=st.data(), seconds=LONG_AGO)
    def both_go_on(self, data: st.DataObject, seconds: int) -> None:
        """Owner and thief each use the newest token they have, in turn: the fork is seen, every time."""
        chain = self.any_chain(data)
        if "thief" in chain.newest and chain.alive:
            for actor in ("owner", "thief", "owner"):
                self.age(chain, seconds)
                got = self.present(chain, chain.newest[actor])
                chain.newest[actor] = got or chain.newest[actor]
            assert not chain.alive

    @invariant()
    def no_ended_session_is_revived_and_a_live_one_has_one_chain(self) -> None:
        """That tokens of an ended session are refused is for `replay` and `refresh`, which draw them too."""
        for chain, stored in zip(self.chains, self.model.all_stored(self.chains), strict=True):
            assert bool(stored) == chain.alive
            if chain.alive:
                assert (int(stored["generation"]), int(stored["attempt"])) == chain.current

    def teardown(self) -> None:
        """Every genuine token of a live session, tried on a copy of it: the current one and its parent alone work."""
        for chain in self.chains:
            if chain.alive:
                accepted = {pair for pair in chain.texts if self.would_be_accepted(chain, pair)}
                assert accepted == {chain.current, chain.parent} - {None}

    def present(self, chain: Chain, pair: Pair) -> Pair | None:
        """Present a genuine token, hold the answer against the contract, and return the pair that came back."""
        outcome, successor = chain.expected(pair)
        before = self.model.stored(chain.id)
        response = self.model.refresh(chain.texts[pair])
        if outcome not in ("new", "same"):
            assert (response.status_code, response.json()["code"]) == (400, outcome)
            chain.alive = False
            return None
        assert response.status_code == 200, response.text
        text = response.json()["refresh_token"]
        if outcome == "same":
            assert text == chain.texts[successor]
            assert self.model.stored(chain.id) == before  # so no replay moves a successor's clock
        else:
            assert successor not in chain.texts
            chain.moved(pair, successor)
        assert text.split(".")[1:3] == [str(part) for part in successor]
        chain.texts[successor] = text
        chain.access_token = response.json()["access_token"]
        return successor

    def would_be_accepted(self, chain: Chain, pair: Pair) -> bool:
        key, run, redis = f"auth:session:{chain.id}", self.model.runner.run, self.model.redis
        before = self.model.stored(chain.id)
        status = self.model.refresh(chain.texts[pair]).status_code
        run(redis.delete(key))
        run(redis.hset(key, mapping=before))
        return status == 200

    def age(self, chain: Chain, seconds: int) -> None:
        if chain.alive:
            key = f"auth:session:{chain.id}"
            self.model.runner.run(self.model.redis.hincrby(key, "made", -1000 * seconds))
            chain.recent = False

    def written(self, session: str, pair: Pair) -> str:
        sessions: Any = self.model.service.parts.sessions
        return str(sessions._refresh_tokens.write(RefreshToken(session, *pair)))

    def any_chain(self, data: st.DataObject) -> Chain:
        return self.chains[data.draw(st.integers(0, len(self.chains) - 1))]


def test_the_refresh_contract_holds_whatever_happens_in_any_order(model: RefreshModel) -> None:
    run_state_machine_as_test(
        lambda: RefreshContract(model),  # type: ignore[arg-type] # it takes any factory
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
