"""What runs beside the requests goes on after a failure, and always ends."""

import asyncio
import logging

import pytest

from service_kit import background


async def test_work_that_fails_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0.0)
    went_on = asyncio.Event()
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("once")
        went_on.set()

    with caplog.at_level(logging.ERROR):
        async with background.running(work):
            await asyncio.wait_for(went_on.wait(), 1)
    assert "work failed and starts again" in caplog.text


async def test_a_service_stops_even_if_a_library_swallows_the_cancellation() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    async with asyncio.timeout(5), background.running(work):
        await asyncio.sleep(0)
    assert swallowed == 2


async def test_work_that_was_done_already_ends_quietly() -> None:
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        await asyncio.sleep(0)

    await asyncio.wait_for(background.run_forever(work), 1)
    async with background.running(work):
        await asyncio.sleep(0.01)
    assert times == 2
