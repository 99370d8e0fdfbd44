"""Asks a range server whether a password is in a published list of stolen ones; off unless it has an address.

The server sees five hex digits of the SHA-1 and nothing else (k-anonymity): it answers every suffix it knows
under them. It is a guest here: if it is slow, busy or wrong, the password passes.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from typing import Final

import httpx
from prometheus_client import Counter

log = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 1.0
IN_FLIGHT: Final = 8  # the budget: more questions at once are not asked
FAILURES: Final = 3  # in a row, after which nobody asks for a while
REST_SECONDS: Final = 30.0
CACHED_RANGES: Final = 128  # of some 40 KiB each
CACHE_SECONDS: Final = 3600.0
MOST_BYTES: Final = 512 * 1024

CHECKS = Counter("breached_password_checks_total", "Questions about stolen passwords", ["outcome"])


class BreachedPasswords:
    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=timeout, headers={"Add-Padding": "true"})
        self._timeout = timeout
        self._ranges: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._questions: dict[str, asyncio.Task[bytes | None]] = {}
        self._failures = 0
        self._rest_until = 0.0

    async def contains(self, password: str) -> bool:
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        found = await self._range(digest[:5])
        return found is not None and _listed(found, digest[5:].encode())

    async def close(self) -> None:
        for question in list(self._questions.values()):
            question.cancel()
        await asyncio.gather(*self._questions.values(), return_exceptions=True)
        await self._client.aclose()

    async def _range(self, prefix: str) -> bytes | None:
        """What is known under the prefix; None if it cannot be told now."""
        now = time.monotonic()
        made, cached = self._ranges.get(prefix, (0.0, b""))
        if cached and now - made < CACHE_SECONDS:
            CHECKS.labels("cached").inc()
            self._ranges.move_to_end(prefix)
            return cached
        if prefix not in self._questions:
            if len(self._questions) >= IN_FLIGHT or now < self._rest_until:
                CHECKS.labels("skipped").inc()
                return None
            question = asyncio.create_task(self._ask(prefix))
            self._questions[prefix] = question
            question.add_done_callback(lambda _: self._questions.pop(prefix))
        # Callers only wait beside the question. It is never cancelled: httpx would lose the place in its pool
        # of a request that is cancelled while connecting.
        done, _ = await asyncio.wait({self._questions[prefix]}, timeout=self._timeout)
        return done.pop().result() if done else None

    async def _ask(self, prefix: str) -> bytes | None:
        try:
            body = await self._fetch(prefix)
        except (httpx.HTTPError, ValueError) as failure:
            self._failed(type(failure).__name__)
            return None
        self._failures = 0
        CHECKS.labels("asked").inc()
        self._ranges[prefix] = (time.monotonic(), body)
        if len(self._ranges) > CACHED_RANGES:
            self._ranges.popitem(last=False)
        return body

    async def _fetch(self, prefix: str) -> bytes:
        give_up = time.monotonic() + 2 * self._timeout
        async with self._client.stream("GET", f"range/{prefix}") as response:
            response.raise_for_status()
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > give_up:
                    raise ValueError("more than a range, or one byte at a time")
        return bytes(body).upper()

    def _failed(self, reason: str) -> None:
        CHECKS.labels("failed").inc()
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures = 0
            self._rest_until = time.monotonic() + REST_SECONDS
        log.warning("breached password check failed, reason=%s", reason)


def _listed(found: bytes, suffix: bytes) -> bool:
    """Lines are `suffix:count`; a count of 0 is padding."""
    for line in found.splitlines():
        listed, _, count = line.partition(b":")
        if listed == suffix:
            return count.strip() not in (b"", b"0")
    return False
