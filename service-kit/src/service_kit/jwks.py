"""The issuer's public keys (RFC 7517): fetched in the background, held in memory, ES256 alone."""

import asyncio
import base64
import logging
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import Counter

from service_kit import strict_json

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]

# Nothing outside this alphabet and length is ever looked up, fetched for or logged.
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_MAX_DOCUMENT = 64 * 1024
_MAX_KEYS = 32
_MOST_REVOKED = 1000  # ids; operators revoke few, and whoever can write to the stream may write any

fetches = Counter(
    "key_fetches",
    "Fetches of the issuer's keys: fetched; unreachable, or unusable; overtaken, as keys were dropped meanwhile.",
    ["outcome"],
)
for _outcome in ("fetched", "unreachable", "unusable", "overtaken"):
    fetches.labels(_outcome)  # counted from 0: what appears with its first failure has no rate

logger = logging.getLogger(__name__)


class FetchOutcome(Enum):
    """What asking the issuer about an unknown key id told."""

    FOUND = auto()
    ABSENT = auto()
    UNAVAILABLE = auto()


class KeyCache:
    """Keys by id. `version` changes when a key that was held no longer is, or is another one."""

    def __init__(self, fetch: Fetch, lifetime: float = 300, cooldown: float = 1.0) -> None:
        self._fetch = fetch
        self.lifetime = lifetime
        self._cooldown = cooldown
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._revoked: dict[str, None] = {}  # ids, the oldest first
        self._fetched_at = -float("inf")  # when those held were asked for
        self._fetching: asyncio.Task[bool] | None = None
        self._requested_at = -float("inf")
        self._responded = False
        self._wake = asyncio.Event()
        self.loaded = False
        self.version = 0

    def find(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """The key, if held; no I/O."""
        return self._keys.get(kid)

    def is_revoked(self, kid: str) -> bool:
        """Whether the key was dropped for good."""
        return kid in self._revoked

    async def refresh(self) -> bool:
        """Fetch once, or join the fetch in flight; False, and the old keys stay, if it failed."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._load())
        # A caller that gives up must not end the fetch that others wait for.
        return await asyncio.shield(self._fetching)

    async def fetch_for(self, kid: str) -> FetchOutcome:
        """Look for an unknown key at the issuer, at most once per cool-down."""
        if kid in self._keys:
            return FetchOutcome.FOUND
        in_flight = self._fetching is not None and not self._fetching.done()
        if in_flight or time.monotonic() - self._requested_at >= self._cooldown:
            responded = await self.refresh()
        else:
            responded = self._responded
        if kid in self._keys:
            return FetchOutcome.FOUND
        return FetchOutcome.ABSENT if responded else FetchOutcome.UNAVAILABLE

    def drop(self, kid: str) -> None:
        """Forget one key for good, whoever may publish it still, and fetch what took its place."""
        self._revoked[kid] = None
        if len(self._revoked) > _MOST_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        if self._keys.pop(kid, None) is not None:
            self._changed()

    def drop_all(self) -> None:
        """Forget every key now: a new epoch began, and no answer to an earlier question counts."""
        self._keys.clear()
        self.loaded = False
        self._changed()

    def drop_outdated(self) -> None:
        """Forget keys that the issuer has not confirmed within their lifetime."""
        if self._keys and time.monotonic() - self._fetched_at > self.lifetime:
            self.drop_all()

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            failures = 0 if await self.refresh() and self.loaded else failures + 1
            pause = min(0.1 * 2**failures, 1.0 if not self.loaded else 10.0) if failures else self.lifetime
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.0)):  # noqa: S311 - spreads load
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _changed(self) -> None:
        self.version += 1
        self._requested_at = -float("inf")
        self._wake.set()

    async def _load(self) -> bool:
        version = self.version
        requested_at = self._requested_at = time.monotonic()
        self._responded = False
        try:
            keys = parse(await self._fetch())
        except (httpx.HTTPError, OSError, ValueError, LookupError, TimeoutError, RecursionError) as error:
            unreachable = isinstance(error, httpx.TransportError | OSError)  # TimeoutError is an OSError
            fetches.labels("unreachable" if unreachable else "unusable").inc()
            logger.warning("keys not fetched, those held stay: %s: %s", type(error).__name__, error)
            return False
        if version != self.version:
            fetches.labels("overtaken").inc()
            return False  # asked before keys were dropped: the answer may hold what was dropped
        fetches.labels("fetched").inc()
        self._fetched_at = requested_at
        keys = {kid: key for kid, key in keys.items() if kid not in self._revoked}
        gone = any(key != keys.get(kid) for kid, key in self._keys.items())
        self._keys = keys
        self.loaded = self._responded = True
        self.version += gone
        return True


def parse(document: Mapping[str, Any]) -> dict[str, ec.EllipticCurvePublicKey]:
    """The ES256 keys of a JWKS, keys of other kinds passed over. ValueError if it cannot be relied on."""
    members = document.get("keys")
    if not isinstance(members, list) or len(members) > _MAX_KEYS:
        raise ValueError("not a JWKS")
    keys: dict[str, ec.EllipticCurvePublicKey] = {}
    for jwk in members:
        if not _is_es256(jwk):
            continue
        if jwk["kid"] in keys:
            raise ValueError("a key id is there twice")
        keys[jwk["kid"]] = _public_key(jwk)
    if not keys:
        raise ValueError("no key of a kind that we use")  # an issuer that works has one: better the keys held
    return keys


def _is_es256(jwk: Any) -> bool:
    if not isinstance(jwk, dict) or jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        return False
    if "d" in jwk:
        logger.error("the issuer published a private key; it is not used")
        return False
    kid = jwk.get("kid")
    return (
        jwk.get("use", "sig") == "sig"
        and jwk.get("alg", "ES256") == "ES256"
        and isinstance(kid, str)
        and KEY_ID.fullmatch(kid) is not None
    )


def _public_key(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = _coordinate(jwk.get("x")), _coordinate(jwk.get("y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()  # ValueError off the curve


def _coordinate(text: Any) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
        raise ValueError("a coordinate is not 32 bytes in base64url")
    return int.from_bytes(base64.urlsafe_b64decode(text + "="))


def public_jwk(kid: str, key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The key as a JWKS member: public members, use and alg."""
    numbers = key.public_numbers()
    x, y = (
        base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode("ascii")
        for number in (numbers.x, numbers.y)
    )
    return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y}


def http_fetch(url: str, timeout: float = 2.0) -> Fetch:
    """Fetch the JWKS over HTTP, within `timeout` seconds in total."""
    tls = ssl.create_default_context() if url.startswith("https:") else False
    # In no coding: a few bytes can be the coding of more than there is memory.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}

    async def fetch() -> Mapping[str, Any]:
        # A client of its own for each of these rare calls: one that is cut off leaves nothing behind.
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(verify=tls, timeout=timeout, trust_env=False) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            if "content-encoding" in response.headers:
                raise ValueError("in a coding that was not asked for")
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > _MAX_DOCUMENT:
                    raise ValueError("larger than a JWKS may be")
        document = strict_json.decode(bytes(content))
        if not isinstance(document, dict):
            raise ValueError("not a JWKS")
        return document

    return fetch
