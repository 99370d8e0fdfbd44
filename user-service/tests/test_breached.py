"""The check against stolen passwords, against a local range server of every temper."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from user_service.passwords import breached
from user_service.passwords.breached import BreachedPasswords
from user_service.passwords.exceptions import PasswordRefused
from user_service.passwords.policy import PasswordRules

STOLEN = "correct horse battery staple"
DIGEST = hashlib.sha1(STOLEN.encode()).hexdigest().upper()
PADDED = "another long and honest password"
PADDED_DIGEST = hashlib.sha1(PADDED.encode()).hexdigest().upper()


class RangeServer:
    """Answers what is known under a prefix, after `before` has had its way with the connection."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.status = "200 OK"
        self.body = f"{DIGEST[5:]}:3\r\n{PADDED_DIGEST[5:]}:0\r\n".encode()
        self.before: Callable[[], Awaitable[None]] | None = None
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.asked.append(head.split()[1])
            if self.before:
                await self.before()
            size = len(self.body)
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: {size}\r\n\r\n".encode() + self.body)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[RangeServer]:
    made = RangeServer()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()


@pytest.fixture
async def check(server: RangeServer) -> AsyncIterator[BreachedPasswords]:
    made = BreachedPasswords(server.url, timeout=0.3)
    yield made
    await made.close()


async def test_a_stolen_password_is_refused_and_five_digits_are_all_that_leaves(
    server: RangeServer, check: BreachedPasswords
) -> None:
    with pytest.raises(PasswordRefused, match="stolen"):
        await PasswordRules(12, check).check(STOLEN, about=())
    assert server.asked == [f"/range/{DIGEST[:5]}"]
    assert DIGEST[5:10] not in server.heads[0].upper()
    assert "add-padding: true" in server.heads[0].lower()


async def test_an_honest_password_and_mere_padding_pass(check: BreachedPasswords) -> None:
    await PasswordRules(12, check).check("some other long password", about=())
    assert not await check.contains(PADDED)


async def test_a_range_is_asked_once_even_by_many_at_once(
    server: RangeServer, check: BreachedPasswords
) -> None:
    assert all(await asyncio.gather(*(check.contains(STOLEN) for _ in range(20))))
    assert await check.contains(STOLEN)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", ["500 Oops", "429 Slow down", "302 Found"])
async def test_a_server_that_fails_lets_passwords_pass(
    server: RangeServer, check: BreachedPasswords, status: str
) -> None:
    server.status = status
    assert not await check.contains(STOLEN)


async def test_an_answer_without_end_lets_the_password_pass(
    server: RangeServer, check: BreachedPasswords
) -> None:
    server.body = b"0" * (breached.MOST_BYTES + 1)
    assert not await check.contains(STOLEN)


@pytest.mark.quiet
async def test_a_slow_server_costs_its_timeout_and_then_nothing(
    server: RangeServer, check: BreachedPasswords
) -> None:
    let_go = asyncio.Event()

    async def slow() -> None:
        await let_go.wait()

    server.before = slow
    for number in range(breached.FAILURES):
        begun = time.monotonic()
        assert not await check.contains(f"{STOLEN} {number}")
        assert time.monotonic() - begun < 0.6
        await asyncio.sleep(0.05)
    asked = len(server.asked)
    begun = time.monotonic()
    assert not await check.contains("yet another password")
    assert time.monotonic() - begun < 0.1
    assert len(server.asked) == asked
    let_go.set()


async def test_more_questions_at_once_than_the_budget_are_not_asked(
    server: RangeServer, check: BreachedPasswords
) -> None:
    await asyncio.gather(*(check.contains(f"password number {number}") for number in range(40)))
    assert len(server.asked) <= breached.IN_FLIGHT


async def test_a_caller_who_leaves_cancels_nobodys_question(
    server: RangeServer, check: BreachedPasswords
) -> None:
    leaving = asyncio.create_task(check.contains(STOLEN))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await check.contains(STOLEN)
    assert len(server.asked) == 1


async def test_no_server_at_all_lets_passwords_pass() -> None:
    check = BreachedPasswords("http://127.0.0.1:1", timeout=0.3)
    assert not await check.contains(STOLEN)
    await check.close()
