"""Everything that deciding who calls needs, as one part: keys, revocations, follower and the two verifiers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service_kit.jwks import Fetch, KeyCache
from service_kit.revocations import Follower, Revocations
from service_kit.settings import VerifierSettings
from service_kit.tokens import Verifier


class Identity:
    """Made in create_app, held as `app.state.identity`, run by the lifespan."""

    keys: KeyCache
    revocations: Revocations
    follower: Follower
    verifier: Verifier
    service_verifier: Verifier

    def __init__(self, settings: VerifierSettings, service_name: str, fetch: Fetch | None = None) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow keys and revocations while the block runs."""
        raise NotImplementedError
        yield

    def ready(self) -> str | None:
        """None when tokens can be verified, else the reason why not."""
        raise NotImplementedError
