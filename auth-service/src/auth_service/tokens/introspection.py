"""What a token says, if it is good now: the core of introspection (RFC 7662) and of forward-auth."""

from collections.abc import Collection
from typing import Any

from service_kit.authenticator import Authenticator
from service_kit.dependencies import VerificationUnavailable
from service_kit.tokens import Caller, CannotVerify, TokenRefused


class Introspection:
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def caller(self, token: str, audiences: Collection[str] = ()) -> Caller | None:
        """Whom a token for the API, or for one of `audiences`, speaks for; None if it is not good."""
        verdict = await self.verdict(token, audiences)
        return verdict if isinstance(verdict, Caller) else None

    async def verdict(self, token: str, audiences: Collection[str] = ()) -> Caller | TokenRefused:
        """The same, or why it is not good."""
        own = map(self._authenticator.verifier_for, audiences)
        for verifier in (self._authenticator.verifier, *own):
            try:
                return await verifier.identify(token.encode())
            except TokenRefused as refused:
                verdict = refused
                if refused.code != "wrong_audience":
                    break
            except CannotVerify as cannot:
                raise VerificationUnavailable(cannot) from None
        return verdict


def claims_of(caller: Caller) -> dict[str, Any]:
    """A caller in the words of RFC 7662 section 2.2."""
    claims = {
        "sub": caller.subject,
        "client_id": caller.client_id,
        "sid": caller.session_id,
        "scope": " ".join(sorted(caller.scopes)),
        "roles": sorted(caller.roles),
        "iss": caller.issuer,
        "aud": caller.audience,
        "jti": caller.token_id,
        "iat": int(caller.issued_at),
        "exp": int(caller.expires_at),
    }
    return claims if caller.auth_time is None else claims | {"auth_time": int(caller.auth_time)}


def headers_of(caller: Caller) -> dict[str, str]:
    """What an ingress may pass on to the service behind it."""
    claims = claims_of(caller)
    return {
        "x-auth-subject": claims["sub"],
        "x-auth-client": claims["client_id"],
        "x-auth-session": claims["sid"],
        "x-auth-scope": claims["scope"],
        "x-auth-roles": " ".join(claims["roles"]),
    }
