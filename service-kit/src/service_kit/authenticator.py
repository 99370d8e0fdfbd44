"""Everything that deciding who calls needs, as one part: keys, revocations, follower, two verifiers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta

from service_kit import background
from service_kit.follower import Follower, connect
from service_kit.jwks import Fetch, KeyCache, http_fetch
from service_kit.revocations import Revocations
from service_kit.settings import VerifierSettings, secret_value
from service_kit.tokens import Verifier


class Authenticator:
    """Made in create_app, held as `app.state.authenticator`, run by the lifespan."""

    def __init__(
        self, settings: VerifierSettings, service_name: str, *, fetch_keys: Fetch | None = None
    ) -> None:
        self._settings = settings
        self._redis = connect(
            settings.revocations_redis_url,
            settings.revocations_redis_user,
            secret_value(settings.revocations_redis_password),
        )
        self.keys = KeyCache(fetch_keys or http_fetch(settings.jwks_url), settings.jwks_lifetime_seconds)
        self.revocations = Revocations(
            settings.revocation_ceiling_seconds,
            settings.token_max_lifetime_seconds + settings.token_leeway_seconds,
        )
        self.follower = Follower(self._redis, self.revocations, self.keys, settings.redis_replicas)
        self.verifier = self.verifier_for(None)
        self.service_verifier = self.verifier_for(service_name)
        self._was_ready = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow keys and revocations while the block runs.

        It begins once tokens can be verified: whoever connects to a new worker waits for that moment instead of being
        told 503. But no service waits for another to start, so after a second it begins all the same; after four
        where a replica of Redis must prove the first answer, which takes two or three.
        """
        try:
            async with background.running(self.follower.run, self.keys.run):
                for _ in range(400 if self._settings.redis_replicas else 100):
                    if self.ready() is None:
                        break
                    await asyncio.sleep(0.01)
                yield
        finally:
            await self._redis.aclose()

    def ready(self) -> str | None:
        """None when tokens can be verified, else the reason why not.

        Once ready it stays so: when proof is lost later, authenticated routes answer 503 by themselves, and
        taking the service away would end the public ones too.
        """
        if not self._was_ready:
            if (reason := self.follower.unready) is not None:
                return reason
            if not self.keys.loaded:
                return "the issuer's keys were not fetched"
            self._was_ready = True
        return None

    async def check(self) -> str | None:
        """`ready`, as `health.router` asks."""
        return self.ready()

    def verifier_for(self, audience: str | None) -> Verifier:
        """A verifier of tokens for `audience`; None means consumers' tokens. Each reads by the same settings."""
        settings = self._settings
        issuers: dict[str, float | None] = {
            issuer: datetime.combine(last_day + timedelta(days=1), time(), UTC).timestamp()
            for issuer, last_day in settings.issuers_also_accepted.items()
        }
        return Verifier(
            self.keys,
            self.revocations,
            issuers | {settings.public_url: None},
            audience,
            settings.token_leeway_seconds,
            settings.token_max_lifetime_seconds,
        )
