"""Whoever asks for metrics learns what is so now, and takes little of the service for it."""

import asyncio
import time

from service_kit.metrics import _Shared


async def test_all_who_ask_at_once_share_what_is_made_after_they_asked() -> None:
    made: list[float] = []

    def make() -> bytes:
        made.append(time.monotonic())
        time.sleep(0.02)
        return b"%d" % len(made)

    shared = _Shared(make)
    for _ in range(3):
        asked = time.monotonic()
        texts = await asyncio.gather(*(shared.text() for _ in range(50)))
        assert len(set(texts)) == 1
        assert made[int(texts[0]) - 1] >= asked
    assert len(made) == 3


async def test_however_many_ask_a_fifth_of_a_core_makes_their_answers() -> None:
    busy = 0.0

    def make() -> bytes:
        nonlocal busy
        began = time.monotonic()
        time.sleep(0.01)
        busy += time.monotonic() - began
        return b""

    shared, began = _Shared(make), time.monotonic()

    async def ask() -> None:
        while time.monotonic() < began + 1:
            await shared.text()

    await asyncio.gather(*(ask() for _ in range(20)))
    assert busy < 0.25 * (time.monotonic() - began)


async def test_what_fails_once_is_made_at_the_next_question() -> None:
    faults = [OSError("a worker's file is gone")]

    def make() -> bytes:
        if faults:
            raise faults.pop()
        return b"made"

    shared = _Shared(make)
    results = await asyncio.gather(shared.text(), return_exceptions=True)
    assert isinstance(results[0], OSError)
    assert await shared.text() == b"made"
