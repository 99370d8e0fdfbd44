"""Signing keys, and access tokens as JWS (RFC 7515, 9068): one key's part of every token is made once."""

import json
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm

from auth_service.keys.models import Key

_es256 = ECAlgorithm(ECAlgorithm.SHA256)
_json = json.JSONEncoder(separators=(",", ":"))


def new_key(now: int) -> Key:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    kid = secrets.token_hex(12)  # hexadecimal: a command takes no kid for an option
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Key(kid, jwk["x"], jwk["y"], b64encode(der).decode(), published_at=now)


@dataclass(frozen=True)
class Signer:
    kid: str
    private: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, key: Key) -> "Signer":
        private = load_der_private_key(b64decode(key.private), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return cls(key.kid, private)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """An access token of these claims (RFC 9068)."""
        signed = self._header + _base64url(_json.encode(claims).encode())
        return (signed + b"." + _base64url(_es256.sign(signed, self.private))).decode("ascii")

    @cached_property
    def _header(self) -> bytes:
        return _base64url(_json.encode({"alg": "ES256", "typ": "at+jwt", "kid": self.kid}).encode()) + b"."


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
