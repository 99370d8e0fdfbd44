"""Passwords: what is accepted, how it is checked, and what a change ends."""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, MutableMapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from conftest import PASSWORD, Person, Service
from httpx import Response
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import ASGIApp

from service_kit.testing import TestIssuer
from user_service.audit.models import AuditContext
from user_service.credentials.service import CredentialService
from user_service.main import Parts
from user_service.passwords import django_hashes, policy
from user_service.passwords.breached import BreachedPasswords
from user_service.passwords.exceptions import HashingBusy, PasswordRefused
from user_service.passwords.hashing import (
    HASHER,
    NICENESS,
    Passwords,
    Place,
    usable_cores,
    usable_threads,
)
from user_service.passwords.policy import PasswordRules
from user_service.users import repository

NEW = "a brand new battery staple"


@pytest.fixture
def hasher() -> PasswordHasher:
    """As long a hash as in service."""
    return HASHER


async def test_the_right_password_gives_the_present_state(service: Service) -> None:
    ada = await service.register()
    verdict = await service.verify(ada.email)
    assert verdict == {
        "verified": True,
        "user": {
            "id": str(ada.id),
            "status": "active",
            "roles": [],
            "credentials_version": 1,
            "sessions_cv": 1,
            "email_verified": False,
        },
    }


async def test_a_wrong_password_and_an_unknown_account_are_answers(service: Service) -> None:
    ada = await service.register()
    refused = {"verified": False, "wait": 0}
    assert await service.verify(ada.email, "wrong") == refused | {"reason": "wrong_password"}
    assert await service.verify("nobody@example.com") == refused | {"reason": "unknown"}
    assert await service.verify("no address") == refused | {"reason": "unknown"}


async def test_a_caller_that_waits_has_less_than_a_beat_to_wait(service: Service) -> None:
    """Of 20 ms: they hide how long finding a person's row took. Who is right does not wait."""
    ada = await service.register()
    path = "/internal/v1/credentials/verify?caller_waits=true"

    async def verdict(email: str, password: str) -> dict[str, Any]:
        response = await service.auth_service().post(path, json={"email": email, "password": password})
        told: dict[str, Any] = response.json()
        return told

    for email in (ada.email, "nobody@example.com"):
        assert 0 < (await verdict(email, "wrong"))["wait"] <= 0.02
    assert "wait" not in await verdict(ada.email, PASSWORD)


async def test_only_a_service_token_of_the_right_scope_may_ask(service: Service) -> None:
    ada = await service.register()
    body = {"email": ada.email, "password": PASSWORD}
    path = "http://users:9000/internal/v1/credentials/verify"
    assert (await service.auth_service("users:read").post(path, json=body)).status_code == 403
    assert (await service.auth_service("*").post(path, json=body)).status_code == 403
    assert (await ada.client.post(path, json=body)).status_code == 401
    assert (await service.auth_service().get("http://users:8000/v1/users/me")).status_code == 401


async def test_changing_the_password_ends_every_session(service: Service) -> None:
    ada = await service.register()
    wrong = {"current_password": "wrong", "new_password": NEW}
    refused = await ada.client.post("/v1/users/me/password", json=wrong)
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_password")
    right = {"current_password": PASSWORD, "new_password": NEW}
    assert (await ada.client.post("/v1/users/me/password", json=right)).status_code == 204
    assert (await service.verify(ada.email))["verified"] is False
    user = (await service.verify(ada.email, NEW))["user"]
    assert (user["credentials_version"], user["sessions_cv"]) == (2, 2)


async def test_a_change_that_ends_sessions_says_so_and_no_other_does(service: Service) -> None:
    """The version rises with whatever a living token must not survive, `sessions_cv` with what ends its session too."""
    ada, admin, auth = await service.register(), service.admin(), service.auth_service()
    path, any_version = f"/v1/users/{ada.id}", {"If-Match": "*"}

    async def versions() -> tuple[int, int]:
        state = (await auth.get(f"/internal{path}")).json()
        return state["credentials_version"], state["sessions_cv"]

    passwords = {"current_password": PASSWORD, "new_password": "another horse, another battery"}
    steps: list[tuple[Awaitable[Response], tuple[int, int]]] = [
        (admin.patch(path, json={"name": "Grace"}, headers=any_version), (1, 1)),
        (admin.put(f"{path}/roles", json={"roles": ["editor"]}, headers=any_version), (2, 1)),
        (admin.post(f"{path}/disable"), (3, 3)),
        (admin.post(f"{path}/enable"), (3, 3)),
        (admin.put(f"{path}/roles", json={"roles": []}, headers=any_version), (4, 3)),
        (ada.client.post("/v1/users/me/password", json=passwords), (5, 5)),
        (admin.delete(path), (6, 6)),
        (admin.post(f"{path}/restore"), (6, 6)),
    ]
    for step, after in steps:
        assert (await step).is_success
        assert await versions() == after


async def test_of_two_password_changes_at_once_one_wins(service: Service) -> None:
    ada = await service.register()
    answers = await asyncio.gather(
        *(
            ada.client.post(
                "/v1/users/me/password",
                json={"current_password": PASSWORD, "new_password": f"{NEW} {number}"},
            )
            for number in range(2)
        )
    )
    assert sorted(response.status_code for response in answers) in ([204, 403], [204, 409])
    verdicts = [await service.verify(ada.email, f"{NEW} {number}") for number in range(2)]
    assert sum(verdict["verified"] for verdict in verdicts) == 1


async def test_an_old_password_verified_while_it_changes_has_the_old_version(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await service.register()
    reached, go_on, verify = asyncio.Event(), asyncio.Event(), Place.verify

    async def slow(place: Place, stored: str | None, password: str) -> bool:
        matches = await verify(place, stored, password)
        reached.set()
        await go_on.wait()
        return matches

    monkeypatch.setattr(Place, "verify", slow)
    signing_in = asyncio.create_task(service.verify(ada.email))
    await reached.wait()
    monkeypatch.undo()
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await ada.client.post("/v1/users/me/password", json=change)).status_code == 204
    go_on.set()
    assert (await signing_in)["user"]["credentials_version"] == 1


async def test_a_change_that_waits_for_another_server_keeps_nobody_from_hashing(
    service: Service, parts: Parts
) -> None:
    class Pondering(BreachedPasswords):
        def __init__(self) -> None:
            self.asked, self.go_on = asyncio.Event(), asyncio.Event()

        async def contains(self, password: str) -> bool:
            self.asked.set()
            return not await self.go_on.wait()

    ada, server, passwords = await service.register(), Pondering(), Passwords(threads=1, queue=0)
    credentials = CredentialService(parts.database, passwords, PasswordRules(12, server))
    changing = asyncio.create_task(credentials.change(ada.id, PASSWORD, NEW, AuditContext(str(ada.id))))
    await server.asked.wait()
    assert await passwords.hash("somebody else's")
    server.go_on.set()
    await changing
    assert (await service.verify(ada.email, NEW))["verified"]
    passwords.close()


async def test_a_sign_in_that_finds_no_place_does_not_ask_the_database(
    service: Service, parts: Parts
) -> None:
    ada = await service.register()
    asked = list[str]()
    event.listen(
        parts.database.engine.sync_engine, "before_cursor_execute", lambda _c, _k, sql, *_: asked.append(sql)
    )
    body = {"email": ada.email, "password": PASSWORD}
    with ExitStack() as everywhere:
        with suppress(HashingBusy):
            while True:
                everywhere.enter_context(parts.passwords.place())
        refused = await service.auth_service().post("/internal/v1/credentials/verify", json=body)
    assert (refused.status_code, refused.json()["code"], asked) == (503, "hashing_busy", [])
    assert (await service.verify(ada.email))["verified"]
    assert asked


async def test_a_weaker_hash_is_renewed_at_sign_in_and_ends_nothing(service: Service, parts: Parts) -> None:
    ada = await with_a_weak_hash(service, parts)
    assert (await service.verify(ada.email))["user"]["credentials_version"] == 1
    assert not await has_a_weak_hash(parts, ada)
    assert (await service.verify(ada.email))["verified"]


async def test_who_is_right_gets_in_while_no_new_hash_can_be_stored(service: Service, parts: Parts) -> None:
    ada = await with_a_weak_hash(service, parts)
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold(connection: AsyncConnection) -> None:
        await repository.lock(connection, ada.id)
        held.set()
        await let_go.wait()

    holding = asyncio.create_task(parts.database.transaction(hold))
    await held.wait()
    assert (await service.verify(ada.email))["verified"]
    let_go.set()
    await holding
    assert await has_a_weak_hash(parts, ada)
    assert (await service.verify(ada.email))["verified"]
    assert not await has_a_weak_hash(parts, ada)


async def with_a_weak_hash(service: Service, parts: Parts) -> Person:
    """Somebody whose password was hashed when less was asked of a hash."""
    person = await service.register()
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)

    async def weaken(connection: AsyncConnection) -> None:
        before = await repository.lock(connection, person.id)
        await repository.save(connection, before, replace(before, password_hash=weak))

    await parts.database.transaction(weaken)
    return person


async def has_a_weak_hash(parts: Parts, person: Person) -> bool:
    stored = (await parts.users.find(person.id)).password_hash
    assert stored is not None
    return HASHER.check_needs_rehash(stored)


async def test_an_account_without_a_password_lets_nobody_in() -> None:
    passwords = Passwords(1)
    with passwords.place() as place:
        assert not await place.verify("!", "!")
        assert not await place.verify(None, "nobody's password")
    passwords.close()


async def test_without_memory_for_the_check_no_password_is_wrong() -> None:
    class Starved(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            raise VerificationError("Memory allocation error")  # argon2's own words

    passwords = Passwords(1, hasher=Starved())
    with passwords.place() as place, pytest.raises(VerificationError):
        await place.verify(HASHER.hash(PASSWORD), PASSWORD)
    passwords.close()


async def test_the_same_keystrokes_are_the_same_password() -> None:
    passwords = Passwords(1)
    with passwords.place() as place:
        assert await place.verify(await place.hash("Caf\u00e9 au lait!"), "Cafe\u0301 au lait!")
    passwords.close()


@pytest.mark.parametrize("beginning", ["x" * 255, "\N{GRINNING FACE}" * 255, "long enough\0and"])
async def test_a_password_counts_to_its_last_character(beginning: str) -> None:
    passwords = Passwords(1)
    with passwords.place() as place:
        stored = await place.hash(f"{beginning}a")
        assert await place.verify(stored, f"{beginning}a")
        assert not await place.verify(stored, f"{beginning}b")
        assert not await place.verify(stored, beginning)
    passwords.close()


async def test_a_full_queue_refuses_at_once_and_the_loop_stays_free() -> None:
    passwords = Passwords(threads=2, queue=3)

    async def check() -> bool:
        with passwords.place() as place:
            return await place.verify(None, "x" * 12)

    started = time.perf_counter()
    results = await asyncio.gather(*(check() for _ in range(40)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, HashingBusy)]
    assert len(refused) == 35
    assert refused[0].headers == {"Retry-After": "1"}
    assert time.perf_counter() - started < 5
    assert await passwords.hash("later") != ""
    passwords.close()


async def test_whoever_registers_leaves_half_of_the_places_to_sign_ins_and_resets() -> None:
    passwords = Passwords(threads=1, queue=3)
    registering = [asyncio.create_task(passwords.hash("x" * 12, for_anybody=True)) for _ in range(4)]
    await asyncio.sleep(0)
    with passwords.place() as place:
        resetting = asyncio.create_task(passwords.hash("y" * 12))
        assert not await place.verify(None, "x" * 12)
    assert await resetting
    results = await asyncio.gather(*registering, return_exceptions=True)
    assert [isinstance(result, HashingBusy) for result in results] == [False, False, True, True]
    passwords.close()


async def test_a_cancelled_caller_keeps_the_place_until_the_thread_is_free() -> None:
    hasher = SlowHasher()
    passwords = Passwords(threads=1, queue=0, hasher=hasher)
    waiting = asyncio.create_task(passwords.hash("slow"))
    await asyncio.to_thread(hasher.begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(HashingBusy):
        await passwords.hash("x")
    hasher.go_on.set()
    async with asyncio.timeout(5):
        while not (made := await hashed(passwords)):
            await asyncio.sleep(0.01)
    assert made
    passwords.close()


async def test_nobody_waits_for_the_hashes_of_callers_who_have_left(
    service: Service, parts: Parts, app: ASGIApp, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await service.register()
    hasher = StuckHasher()
    monkeypatch.setattr(parts.passwords, "_hasher", hasher)
    leaving = [LeavingCaller(app, issuer, ada.email) for _ in range(34)]  # two threads and a full queue
    asked = [asyncio.create_task(each.ask()) for each in leaving]
    async with asyncio.timeout(5):
        while parts.passwords._free or hasher.begun < 2:
            await asyncio.sleep(0.01)
    for each in leaving:
        each.left.set()
    await asyncio.gather(*asked)
    monkeypatch.setattr(parts.passwords, "_hasher", HASHER)
    hasher.go_on.set()
    async with asyncio.timeout(5):
        assert (await service.verify(ada.email))["verified"]
    assert hasher.begun == 2, "no hash begins for somebody who has left"


async def test_whoever_is_cancelled_before_hashing_gives_the_place_back() -> None:
    passwords = Passwords(threads=1, queue=0)
    with pytest.raises(asyncio.CancelledError), passwords.place():
        raise asyncio.CancelledError
    assert await passwords.hash("x")
    passwords.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
async def test_hashing_leaves_the_cores_to_the_event_loop() -> None:
    class RowReport(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            return str(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    passwords = Passwords(threads=1, hasher=RowReport())
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert int(await passwords.hash("x")) == min(ours + NICENESS, 19)
    passwords.close()


class SlowHasher(PasswordHasher):
    """Hashes "slow" once it is told to go on."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        if password == "slow":
            self.begun.set()
            assert self.go_on.wait(10)
        return super().hash(password, salt=salt)


class StuckHasher(PasswordHasher):
    """Checks nothing until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.begun, self.go_on = 0, threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.begun += 1
        assert self.go_on.wait(10)
        return super().verify(hash, password)


class LeavingCaller:
    """Asks whether somebody's password is right, and leaves before it is told."""

    def __init__(self, app: ASGIApp, issuer: TestIssuer, email: str) -> None:
        self._app = app
        self._token = issuer.service_token("user-service", "credentials:verify")
        self._body = json.dumps({"email": email, "password": PASSWORD}).encode()
        self.left = asyncio.Event()

    async def ask(self) -> None:
        parts: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": self._body}]

        async def receive() -> MutableMapping[str, Any]:
            if parts:
                return parts.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(_: MutableMapping[str, Any]) -> None:
            """Nobody reads it."""

        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/internal/v1/credentials/verify",
            "raw_path": b"",
            "query_string": b"",
            "root_path": "",
            "server": ("users", 9000),
            "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self._app(scope, receive, send)


async def hashed(passwords: Passwords) -> str:
    try:
        return await passwords.hash("x")
    except HashingBusy:
        return ""


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "x" * 257,
        "password1234",
        "aaaaaaaaaaaa",
        "121212121212",
        "ada.lovelace!",
        "gatehouse2026",
        "Lovelace1234",
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        policy.check(password, shortest=12, about=("ada.lovelace@example.com", "Ada Lovelace"))


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "Use at least 12 characters."),
        ("x" * 257, "Use at most 256 characters."),
        ("password1234", "This password is one of the most common ones. Choose another."),
        ("121212121213", "Use at least 5 different characters."),
        ("passwordpassword", "Most of this password is the word “password”."),
        ("gatehouse2026", "Most of this password is the name of this system."),
        ("ada.lovelace!", "Most of this password is your name."),
        ("ada.lovelace@example.com", "Most of this password is your e-mail address."),
        ("lovelacepassword", "Most of this password is your name and the word “password”."),
    ],
)
def test_a_refused_password_is_told_what_is_true_of_it(password: str, said: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        policy.check(password, shortest=12, about=("ada.lovelace@example.com", "Ada Lovelace"))
    assert refused.value.detail.removesuffix(" Add words that are hard to guess.") == said


@pytest.mark.parametrize(
    "password", [PASSWORD, "パスワードは長いほうがよい、本当に", "x9" + "y7zq" * 60, "            z1q p4"]
)
def test_any_characters_make_a_password(password: str) -> None:
    policy.check(password, shortest=12, about=("ada@example.com", "Ada"))


async def test_a_refused_password_says_what_to_do_and_not_what_was_sent(service: Service) -> None:
    body = {"email": "ada@example.com", "name": "Ada", "password": "canary"}
    response = await service.anonymous.post("/v1/users", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "password_refused")
    assert "12 characters" in response.json()["detail"]
    assert "canary" not in response.text


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_as_many_threads_hash_as_the_container_may_use_cores(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("files", "workers", "threads"),
    [
        ({"memory.max": "536870912\n"}, 1, 6),
        ({"memory.max": "536870912\n"}, 2, 3),
        ({"memory.max": "536870912\n"}, 64, 1),
        ({"memory.max": "536870912\n", "cpu.max": "400000 100000\n"}, 1, 4),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 1, 6),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 1, 64),
        ({"memory.max": "max\n"}, 1, 64),
        ({}, 1, 64),
    ],
)
def test_no_more_threads_hash_than_fit_into_the_container_s_memory(
    files: dict[str, str], workers: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_threads(workers, tmp_path) == threads


async def test_of_old_hashes_that_take_much_memory_one_is_checked_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, checking, most = threading.Lock(), 0, 0

    def verify(encoded: str, password: str) -> bool:
        nonlocal checking, most
        with gate:
            checking += 1
            most = max(most, checking)
        time.sleep(0.02)
        with gate:
            checking -= 1
        return False

    monkeypatch.setattr(django_hashes, "verify", verify)
    as_django_makes_them = "argon2$argon2id$v=19$m=102400,t=2,p=8$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    passwords = Passwords(threads=4)

    async def check() -> None:
        with passwords.place() as place:
            assert not await place.verify(as_django_makes_them, PASSWORD)

    await asyncio.gather(*(check() for _ in range(4)))
    assert most == 1
    passwords.close()
