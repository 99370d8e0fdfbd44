"""Verifying access tokens (RFC 9068): what the claims must say, one signature check, a memo of what was verified."""

import math
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Protocol

from service_kit import jws
from service_kit.jwks import KEY_ID, FetchOutcome, KeyCache

_TYPES = ("at+jwt", "application/at+jwt")
_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749, section 3.3
_HEADERS = 64  # one or two a key are in use
# Values that many tokens share are kept once for all callers in the memo. They are kept before the signature is
# checked, and no forger may fill memory: so many of each, no scope longer than this, no more roles than that.
_SHARED_VALUES, _SHARED_SCOPE_LENGTH, _SHARED_ROLES = 128, 256, 8


# Why a token is not accepted: each stable code, and what is told beside it.
REFUSED: Final = {
    "token_expired": "The token has expired. Refresh, then repeat the request.",
    "session_revoked": "The session has ended. Sign in again.",
    "credentials_changed": "The credentials or roles have changed. Refresh, or sign in again.",
    "key_revoked": "The key that signed the token was revoked. Refresh.",
    "unknown_key": "The key that signed the token is not known. Refresh, or sign in again.",
    "bad_signature": "The token's signature is wrong. Send the token unchanged.",
    "wrong_issuer": "The token is from another issuer. Get one from this system.",
    "wrong_audience": "The token is for another audience.",
    "token_type": "The token is not an access token. Send the `access_token`.",
    "token_algorithm": "The token must be signed with ES256. Get one from this system.",
    "token_malformed": "The token is malformed. Look for quotes, line breaks or a missing part.",
    "token_claims": "A claim is missing or malformed.",
    "token_lifetime": "The token's lifetime is longer than is accepted.",
    "token_not_yet_valid": "The token is not valid yet. A clock is wrong.",
}
# Why nothing can be said about any token.
CANNOT_VERIFY: Final = {
    "keys_unavailable": "The keys could not be fetched. Wait as long as `Retry-After` says.",
    "revocations_stale": "Recent revocations are not known. Wait as long as `Retry-After` says.",
    "revocations_unproven": "Revocations are not known yet. Wait as long as `Retry-After` says.",
}


class TokenRefused(Exception):
    """The token is not accepted: 401 invalid_token. `code` is stable; `detail` is for people, without input."""

    caller: "Caller | None" = None  # whom it speaks for, if nothing but a revocation is against it

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail or REFUSED[code]


class KeyUnknown(TokenRefused):
    """No key of that id is held; it may exist at the issuer."""

    def __init__(self, kid: str) -> None:
        super().__init__("unknown_key")
        self.kid = kid


class CannotVerify(Exception):
    """Nothing can be said about any token now: 503 with Retry-After, never 401."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as a verified token says it. Times are Unix seconds."""

    subject: str
    client_id: str
    session_id: str
    scopes: frozenset[str]
    roles: frozenset[str]
    credentials_version: int | None
    token_id: str
    key_id: str
    issued_at: float
    expires_at: float
    auth_time: float | None
    issuer: str
    audience: str

    def has_scope(self, scope: str) -> bool:
        """`*`, the first-party client's scope, has all."""
        return scope in self.scopes or "*" in self.scopes


class RevocationCheck(Protocol):
    """What the verifier asks on every token, remembered or not."""

    def check(self, caller: Caller, now: float) -> None:
        """Raise TokenRefused for a revoked token, CannotVerify when that cannot be told."""


class Verifier:
    """Turns a token into a Caller, or refuses it.

    `issuers` maps each accepted issuer to the time its acceptance ends (None: never). `audience` None means the
    token's own issuer, as in consumers' tokens; in services' tokens it is the callee's name.
    """

    def __init__(
        self,
        keys: KeyCache,
        revocations: RevocationCheck,
        issuers: Mapping[str, float | None],
        audience: str | None = None,
        leeway: float = 30,
        max_lifetime: float = 3600,
        memo_size: int = 20_000,
    ) -> None:
        self._keys = keys
        self._revocations = revocations
        self._issuers = {issuer: math.inf if end is None else end for issuer, end in issuers.items()}
        self._audience = audience
        self._leeway = leeway
        self._max_lifetime = max_lifetime
        # By digest, so that no token is kept: the caller, and until when the token's own words hold.
        self._memo: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._memo_size = memo_size
        # The headers of tokens that were verified, with the key's id: all tokens of one key begin alike.
        self._headers: dict[bytes, str] = {}
        self.hits = self.misses = 0  # of the memo, for metrics
        self._keys_version = keys.version

    def verify(self, token: bytes, now: float, digest: bytes | None = None) -> Caller:
        """Synchronous, no I/O; raises TokenRefused, KeyUnknown or CannotVerify.

        `digest` is `digest_of(token)`, from who keeps it because the same token comes again and again.
        """
        if self._keys_version != self._keys.version:
            self._memo.clear()  # a key is gone, and with it the proof of every token it signed
            self._headers.clear()
            self._keys_version = self._keys.version
        if digest is None:
            digest = digest_of(token)
        remembered = self._memo.get(digest)
        if remembered is not None and now < remembered[1]:
            caller = remembered[0]
            self.hits += 1
        else:
            self.misses += 1
            try:
                caller = self._read(token, now)
            except jws.Malformed as fault:
                raise TokenRefused("token_malformed", f"{REFUSED['token_malformed']} {fault}") from None
            self._remember(digest, caller)
        try:
            self._revocations.check(caller, now)
        except TokenRefused as refused:
            refused.caller = caller
            raise
        return caller

    def remembered(self, token: bytes, now: float) -> bool:
        """Whether `verify` would find the token in its memo."""
        entry = self._memo.get(digest_of(token))
        return entry is not None and now < entry[1] and self._keys_version == self._keys.version

    async def identify(self, token: bytes) -> Caller:
        """Verify now; for an unknown key fetch the keys once and verify once more."""
        try:
            return self.verify(token, time.time())
        except KeyUnknown as unknown:
            if await self._keys.fetch_for(unknown.kid) is FetchOutcome.UNAVAILABLE:
                raise CannotVerify("keys_unavailable") from None
        return self.verify(token, time.time())

    def _read(self, token: bytes, now: float) -> Caller:
        first, second, signature, signed = jws.split(token)
        known = self._headers.get(first)
        header = jws.read_object(first) if known is None else {}
        claims = jws.read_object(second)
        kid = known or _key_id(header)
        caller = self._caller(claims, kid, now)
        key = self._keys.find(kid)
        if key is None:
            raise TokenRefused("key_revoked") if self._keys.is_revoked(kid) else KeyUnknown(kid)
        if not jws.is_signed(signed, key, signature):
            raise TokenRefused("bad_signature")
        if known is None and len(self._headers) < _HEADERS:
            self._headers[first] = kid
        return caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._memo[digest] = caller, min(caller.expires_at + self._leeway, self._issuers[caller.issuer])
        if len(self._memo) > self._memo_size:
            self._memo.popitem(last=False)

    def _caller(self, claims: dict[str, Any], kid: str, now: float) -> Caller:
        issuer = _shared(_text(claims, "iss"))
        if now >= self._issuers.get(issuer, -math.inf):
            raise TokenRefused("wrong_issuer")
        audience = issuer if self._audience is None else self._audience
        if claims.get("aud") not in (audience, [audience]):
            raise TokenRefused("wrong_audience")
        issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
        self._check_times(issued_at, expires_at, _time(claims, "nbf") if "nbf" in claims else 0, now)
        return Caller(
            subject=_text(claims, "sub"),
            client_id=_shared(_text(claims, "client_id")),
            session_id=_text(claims, "sid"),
            scopes=_scopes(claims),
            roles=_roles(claims),
            credentials_version=_version(claims),
            token_id=_text(claims, "jti"),
            key_id=kid,
            issued_at=issued_at,
            expires_at=expires_at,
            auth_time=_time(claims, "auth_time") if "auth_time" in claims else None,
            issuer=issuer,
            audience=audience,
        )

    def _check_times(self, issued_at: float, expires_at: float, not_before: float, now: float) -> None:
        if now >= expires_at + self._leeway:
            raise TokenRefused("token_expired")
        if max(issued_at, not_before) > now + self._leeway:
            raise TokenRefused("token_not_yet_valid")
        if not 0 < expires_at - issued_at <= self._max_lifetime:
            raise TokenRefused("token_lifetime")


def digest_of(token: bytes) -> bytes:
    """What the memo knows a token by."""
    return sha256(token).digest()


def _key_id(header: dict[str, Any]) -> str:
    """The key's id, of a header that asks for nothing but what we do anyway.

    jku, x5u, jwk and x5c are ignored: a token does not say which key to trust.
    """
    if header.get("alg") != "ES256":
        raise TokenRefused("token_algorithm")
    if header.get("typ") not in _TYPES:
        raise TokenRefused("token_type")
    if "crit" in header or "b64" in header:
        raise jws.Malformed("Its header asks for an extension.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not KEY_ID.fullmatch(kid):
        raise jws.Malformed("Its key id is missing or malformed.")
    return kid


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not _is_identifier(value):
        raise _claim(name)
    return value


def _is_identifier(text: str) -> bool:
    """Up to 255 of ASCII's printable characters, the space included."""
    return 0 < len(text) <= 255 and text.isascii() and text.isprintable()


@lru_cache(_SHARED_VALUES)
def _shared(text: str) -> str:
    return text


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # By type, as a bool is an instance of int; by size, as 1e400 is infinite.
    if (type(value) is int or type(value) is float) and 0 <= value <= 1e12:
        return float(value)
    raise _claim(name)


def _version(claims: dict[str, Any]) -> int | None:
    value = claims.get("cv")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise _claim("cv")
    return value


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    value = claims.get("scope", "")
    if not isinstance(value, str):
        raise _claim("scope")
    return _shared_scopes(value) if len(value) <= _SHARED_SCOPE_LENGTH else _read_scopes(value)


def _read_scopes(text: str) -> frozenset[str]:
    if text and not _SCOPES.fullmatch(text):
        raise _claim("scope")
    return frozenset(text.split())


_shared_scopes = lru_cache(_SHARED_VALUES)(_read_scopes)


def _roles(claims: dict[str, Any]) -> frozenset[str]:
    value = claims.get("roles", [])
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        raise _claim("roles")
    return _shared_roles(*value) if len(value) <= _SHARED_ROLES else _read_roles(*value)


def _read_roles(*names: str) -> frozenset[str]:
    if not all(map(_is_identifier, names)):
        raise _claim("roles")
    return frozenset(names)


_shared_roles = lru_cache(_SHARED_VALUES)(_read_roles)


def _claim(name: str) -> TokenRefused:
    return TokenRefused("token_claims", f"The claim {name} is missing or malformed.")
