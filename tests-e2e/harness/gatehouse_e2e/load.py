"""Open-loop load: requests leave at their planned time whether or not earlier ones were answered."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from .api import Person, Tokens
from .history import Exchange, History
from .wire import Answer, BadAnswer, Connections, Timing, request_bytes

# A person's refresh token is retried after a lost answer, as a client does, this much later.
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


class Sender:
    """Sends one planned operation's requests and records each."""

    def __init__(self, connections: Connections, history: History, planned: float, deadline: float) -> None:
        self._connections = connections
        self._history = history
        self._planned = planned
        self._deadline = deadline

    async def send(
        self, operation: str, request: Request, *, may_succeed: bool | None = True
    ) -> tuple[Exchange, Answer | None]:
        began = self._history.began
        one = Exchange(operation, self._planned, time.monotonic() - began, may_succeed)
        timing = Timing(one.started)
        data = request_bytes(
            request.method, request.path, self._connections.target.authority, request.headers, request.body
        )
        answer = None
        self._history.begin(one)
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._connections.exchange(request.method, data, timing)
        except TimeoutError:
            one.failure = "timeout"
        except ConnectionRefusedError:
            one.failure = "refused"
        except BadAnswer as error:
            one.failure = "closed" if timing.first_byte is None or "ended" in str(error) else "bad framing"
        except OSError as error:
            one.failure = type(error).__name__
        one.ended = time.monotonic() - began
        one.first_byte = timing.first_byte and timing.first_byte - began
        if answer:
            _note(one, answer)
        self._history.add(one)
        self._planned = self._history.now()  # a second request of the same operation is planned now
        return one, answer


def _note(one: Exchange, answer: Answer) -> None:
    one.status = answer.status
    one.media_type = (answer.header("content-type") or "").partition(";")[0]
    one.request_id = answer.header("x-request-id")
    one.retry_after = answer.header("retry-after")
    if answer.status >= 400:
        body = answer.json()
        if isinstance(body, dict):
            one.code = body.get("code") or body.get("error")
            one.request_id = body.get("request_id") or one.request_id


class Operation(Protocol):
    """Something a consumer does; called once each time its turn comes."""

    async def __call__(self, sender: Sender) -> None: ...


def _headers(person: Person, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("X-Forwarded-For", person.address), *more)


def _bearer(person: Person, token: str | None = None) -> tuple[tuple[str, str], ...]:
    return _headers(person, ("Authorization", f"Bearer {token or person.tokens.access_token}"))


FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")


class Crowd:
    """People taken in turn; who is busy with something stateful is passed over."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._turn = itertools.cycle(people)
        self._size = len(people)
        self._busy: set[str] = set()

    def next(self) -> Person:
        return next(self._turn)

    @contextmanager
    def idle(self) -> Iterator[Person | None]:
        for _ in range(self._size):
            person = self.next()
            if person.id not in self._busy:
                break
        else:
            yield None
            return
        self._busy.add(person.id)
        try:
            yield person
        finally:
            self._busy.discard(person.id)


class Read:
    """GET /v1/users/me with a good token: the body must be this person's. `once`: on a connection of its own."""

    def __init__(self, people: Sequence[Person], *, once: bool = False) -> None:
        self._crowd = Crowd(people)
        self._more = (("Connection", "close"),) if once else ()

    async def __call__(self, sender: Sender) -> None:
        person = self._crowd.next()
        headers = (*_bearer(person), *self._more)
        one, answer = await sender.send("read", Request("GET", "/v1/users/me", headers))
        if answer and answer.status == 200:
            body = answer.json()
            if not isinstance(body, dict) or body.get("id") != person.id:
                one.wrong = f"asked as {person.id}, got {answer.body[:120]!r}"


class Check:
    """GET /auth/verify: is this token good? No store is asked for it."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._crowd = Crowd(people)

    async def __call__(self, sender: Sender) -> None:
        await sender.send("auth:check", Request("GET", "/auth/verify", _bearer(self._crowd.next())))


class ReadRefused:
    """The same with a token that must never be served: forged, or of an ended session.

    `may_succeed` may be None while either is right, as with a token that is about to end.
    """

    def __init__(self, name: str, people: Sequence[Person], may_succeed: bool | None = False) -> None:
        self._name = name
        self._crowd = Crowd(people)
        self.may_succeed = may_succeed

    async def __call__(self, sender: Sender) -> None:
        person = self._crowd.next()
        request = Request("GET", "/v1/users/me", _bearer(person))
        await sender.send(f"read ({self._name})", request, may_succeed=self.may_succeed)


class SignIn:
    def __init__(self, people: Sequence[Person]) -> None:
        self._crowd = Crowd(people)

    async def __call__(self, sender: Sender) -> None:
        person = self._crowd.next()
        form = {"grant_type": "password", "username": person.email, "password": person.password}
        await sender.send(
            "auth:sign-in", Request("POST", "/auth/token", _headers(person, FORM), urlencode(form).encode())
        )


class Refresh:
    """Rotates a session of its own; a lost answer is retried with the same token, as the contract allows."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._crowd = Crowd(people)

    async def __call__(self, sender: Sender) -> None:
        with self._crowd.idle() as person:
            if person is None:
                return
            form = {"grant_type": "refresh_token", "refresh_token": person.tokens.refresh_token}
            request = Request("POST", "/auth/token", _headers(person, FORM), urlencode(form).encode())
            one, answer = await sender.send("auth:refresh", request)
            if one.failure:
                await asyncio.sleep(RETRY_SECONDS)
                one, answer = await sender.send("auth:refresh", request)
            if answer and answer.status == 200:
                body = answer.json()
                person.tokens = Tokens(
                    body["access_token"], body["refresh_token"], body["expires_in"], body.get("scope", "")
                )


@dataclass(slots=True)
class Written:
    """What one person's name may be: the last acknowledged value, or any tried since."""

    acknowledged: str
    tried: list[str] = field(default_factory=list)
    etag: str = ""


class Rename:
    """PATCH /v1/users/me under If-Match; `lost` tells afterwards which acknowledged write is gone."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._crowd = Crowd(people)
        self._written = {person.id: Written(person.name) for person in people}
        self._number = itertools.count(1)
        self.lost: list[str] = []

    async def __call__(self, sender: Sender) -> None:
        with self._crowd.idle() as person:
            if person is None:
                return
            written = self._written[person.id]
            if not written.etag:
                await self._learn(sender, person, written)
            else:
                await self._write(sender, person, written)

    async def _write(self, sender: Sender, person: Person, written: Written) -> None:
        name = f"Name {next(self._number)}"
        uncertain = bool(written.tried)
        written.tried.append(name)
        headers = (*_bearer(person), JSON, ("If-Match", written.etag))
        written.etag = ""  # until an answer tells the next one
        request = Request("PATCH", "/v1/users/me", headers, json.dumps({"name": name}).encode())
        one, answer = await sender.send("write", request)
        if answer and answer.status == 412 and uncertain:
            one.may_succeed = None  # an earlier write, whose answer never came, took place meanwhile
        if answer and answer.status == 200:
            written.acknowledged = name
            written.tried.clear()
            written.etag = answer.header("etag") or ""

    async def _learn(self, sender: Sender, person: Person, written: Written) -> None:
        _, answer = await sender.send("read", Request("GET", "/v1/users/me", _bearer(person)))
        if answer and answer.status == 200:
            written.etag = answer.header("etag") or ""
            self.judge(person, str(answer.json()["name"]))

    def judge(self, person: Person, name: str) -> None:
        written = self._written[person.id]
        if name != written.acknowledged and name not in written.tried:
            self.lost.append(f"{person.id}: acknowledged {written.acknowledged!r}, found {name!r}")
        written.acknowledged = name


@dataclass(frozen=True, slots=True)
class Share:
    """An operation and how often it comes, in requests per second."""

    per_second: float
    operation: Operation


class Load:
    """`with Load(url, shares).running() as history:` sends until the block ends."""

    def __init__(self, url: str, shares: Sequence[Share], deadline: float = 10) -> None:
        self._url = url
        self._shares = shares
        self._deadline = deadline
        self._stop = threading.Event()
        self.history = History()

    @contextmanager
    def running(self) -> Iterator[History]:
        self.history.began = time.monotonic()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._drive())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                errors.append(error)

        thread = threading.Thread(target=work, name="load")
        thread.start()
        try:
            yield self.history
        finally:
            self._stop.set()
            thread.join()
        if errors:
            raise errors[0]

    async def _drive(self) -> None:
        connections = Connections(self._url)
        async with asyncio.TaskGroup() as running:
            for planned, operation in self._plan():
                while (early := planned - self.history.now()) > 0:
                    if self._stop.is_set():
                        break
                    await asyncio.sleep(min(early, 0.1))
                if self._stop.is_set():
                    break
                sender = Sender(connections, self.history, planned, self._deadline)
                running.create_task(self._once(operation, sender))
        await connections.close()

    @staticmethod
    async def _once(operation: Operation, sender: Sender) -> None:
        await operation(sender)

    def _plan(self) -> Iterator[tuple[float, Operation]]:
        """(seconds since the beginning, operation), each share evenly spaced and merged by time."""
        due = [(index / 97 + 1e-3, share) for index, share in enumerate(self._shares)]
        while True:
            at = min(range(len(due)), key=lambda index: due[index][0])
            planned, share = due[at]
            yield planned, share.operation
            due[at] = (planned + 1 / share.per_second, share)
