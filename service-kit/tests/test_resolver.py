"""Host names are looked up apart from each other, once at a time, and in bounded number."""

import asyncio
import socket
import threading
from collections import Counter
from typing import Any

import pytest

from service_kit.resolver import LOOKUPS_MAX, SERVICE_LOOKUPS_MAX, resolve_host


async def test_names_without_an_answer_hold_up_no_other_and_are_bounded_in_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, looked_up = threading.Event(), Counter[str]()

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        looked_up[host] += 1
        assert not host.startswith("silent") or released.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]

    def begin(host: str, service: str = "") -> asyncio.Task[frozenset[str]]:
        return asyncio.create_task(resolve_host(host, service))

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    waiting = [begin(f"silent-{number % 90}.test") for number in range(180)]
    waiting += [begin(f"silent-of-one-{number}.test", "one") for number in range(SERVICE_LOOKUPS_MAX)]
    try:
        async with asyncio.timeout(30):
            with pytest.raises(OSError, match="too many lookups"):
                await begin("silent-of-one.test", "one")
            assert await begin("answered.test", "two") == {"192.0.2.7"}
            given_up = begin("silent-0.test")
            await asyncio.sleep(0)
            given_up.cancel()
            waiting += [begin(f"silent-more-{number}.test") for number in range(LOOKUPS_MAX - 94)]
            with pytest.raises(OSError, match="too many lookups"):
                await begin("answered.test")
            assert await begin("192.0.2.8") == {"192.0.2.8"}, "an address needs no lookup"
        assert not any(one.done() for one in waiting)
    finally:
        released.set()
    assert set(await asyncio.gather(*waiting)) == {frozenset({"192.0.2.7"})}
    assert set(looked_up.values()) == {1}
    assert await begin("silent-0.test") == {"192.0.2.7"}
    assert looked_up["silent-0.test"] == 2, "each is looked up anew"
